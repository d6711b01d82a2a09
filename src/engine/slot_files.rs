//! States of a batcher's slots in files: see [`Batcher::save_slot`].

use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use super::session_file::StateOf;
use super::slots::{SlotAction, SlotCommand, SlotState};
use super::{Batcher, Error, SessionFileError};

/// The reason why the state of a slot is not saved, restored or erased.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SlotError {
    /// The slot has no state.
    #[error("slot {slot} has no state: nothing was computed in it, or that has made room for others")]
    Empty {
        /// The slot.
        slot: usize,
    },
    /// The file cannot be written or read.
    #[error(transparent)]
    File(#[from] SessionFileError),
    /// There is no such slot, or the engine does not answer.
    #[error(transparent)]
    Engine(#[from] Error),
}

/// What was saved or restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotFile {
    /// Tokens of the state.
    pub tokens: usize,
    /// Bytes of the file.
    pub bytes: u64,
}

/// Methods for slots wait until no request is in the slot. `salt` is that of the requests whose states may be seen.
impl Batcher {
    /// Writes the state of a slot to `path`, completely or not at all, in place of a file that is there. Others are computed
    /// meanwhile.
    ///
    /// # Errors
    /// When there is no such slot or state, or the file cannot be written.
    pub fn save_slot(&self, slot: usize, salt: u64, path: &Path) -> Result<SlotFile, SlotError> {
        let state = self.ask_slot(slot, salt, SlotAction::Copy)?.ok_or(SlotError::Empty { slot })?;
        let bytes = self.state_of().write(path, &[], &state.tokens, &state.sequence)?;
        Ok(SlotFile { tokens: state.tokens.len(), bytes })
    }

    /// Reads the state that [`Self::save_slot`] has written to `path` into a slot, and keeps it for later requests. Others are
    /// computed meanwhile. After an error the slot is as it was.
    ///
    /// # Errors
    /// When there is no such slot, the file cannot be read, is damaged or belongs to another model, version, context length or cache
    /// type, or there is no memory for the state.
    pub fn restore_slot(&self, slot: usize, salt: u64, path: &Path) -> Result<SlotFile, SlotError> {
        let mut sequence = self.empty_sequence();
        let mut held = None;
        let mut prepare = |sequence: &crate::cpu::Sequence, tokens: usize| {
            let bytes = sequence.bytes_to_take(tokens);
            held = Some(self.ask_slot(slot, salt, |reply| SlotAction::MakeRoom(bytes, reply)));
        };
        let stored = self.state_of().read(path, &mut sequence, &mut prepare)?;
        let Some(held) = held else { return Err(Error::Stopped.into()) };
        let file = SlotFile { tokens: stored.tokens.len(), bytes: stored.bytes };
        let state = SlotState { tokens: stored.tokens, sequence, _held: held? };
        self.ask_slot(slot, salt, |reply| SlotAction::Put(state, reply))?;
        Ok(file)
    }

    /// Removes the state of a slot: a later request reads all of its prompt again, unless another slot has the same text. Returns the
    /// number of its tokens.
    ///
    /// # Errors
    /// When there is no such slot.
    pub fn erase_slot(&self, slot: usize, salt: u64) -> Result<usize, SlotError> {
        self.ask_slot(slot, salt, SlotAction::Erase)
    }

    fn state_of(&self) -> StateOf<'_> {
        let (model, kv_type) = (self.model().as_ref(), self.options().session.kv_type);
        StateOf { model, kv_type, context_length: self.context_length() }
    }

    /// Asks the thread that computes, and waits for its answer.
    fn ask_slot<T>(
        &self,
        slot: usize,
        salt: u64,
        action: impl FnOnce(SyncSender<T>) -> SlotAction,
    ) -> Result<T, SlotError> {
        let (reply, answer): (_, Receiver<T>) = sync_channel(1);
        self.command(SlotCommand { slot, salt, action: action(reply) })?;
        answer.recv().map_err(|_| Error::Stopped.into())
    }
}
