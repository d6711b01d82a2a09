//! Downloads one file: in pieces over several connections. Pieces are recorded once they are on the disk, so that an interruption
//! costs only seconds, and the checksum is verified before the file gets its name.

use std::io::Read;
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::checksum::Checksum;
use super::client::{Client, Pauses};
use super::error::Error;
use super::part::{PIECE_BYTES, Part, is_there};
use super::url::without_query;

/// Maximum pieces of one request.
const RUN: usize = 256;
/// Minimum pieces per connection.
const PIECES_A_CONNECTION: usize = 4;
/// Interval of recording pieces.
const NOTED_EVERY: Duration = Duration::from_secs(1);

/// The phase of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Another program is fetching it.
    Waiting,
    /// It is being fetched.
    Fetching,
    /// Its checksum is being computed.
    Checking,
}

/// Progress of several files.
#[derive(Clone, Copy, Debug)]
pub struct Progress<'a> {
    /// The current file.
    pub file: &'a str,
    /// Its phase.
    pub phase: Phase,
    /// Bytes of all files that have been received; while a file is checked, the bytes of it that have been read.
    pub done: u64,
    /// Bytes of all files; while a file is checked, its own.
    pub total: u64,
}

/// Called with the progress, from several threads; stops the work by returning false.
pub type Observer<'a> = dyn Fn(Progress<'_>) -> bool + Sync + 'a;

/// Counts the progress of several files together.
pub(super) struct Meter<'a> {
    pub(super) done: AtomicU64,
    pub(super) total: u64,
    pub(super) observer: &'a Observer<'a>,
}

impl Meter<'_> {
    fn update(&self, file: &str, phase: Phase) -> bool {
        (self.observer)(Progress { file, phase, done: self.done.load(Ordering::Relaxed), total: self.total })
    }
}

/// A file to fetch.
pub(super) struct Job<'a> {
    /// Its name for display.
    pub(super) name: &'a str,
    pub(super) url: &'a str,
    pub(super) bytes: u64,
    pub(super) checksum: &'a Checksum,
    /// The path of the complete file.
    pub(super) target: &'a Path,
}

/// Fetches a file, unless it exists.
pub(super) fn download(client: &Client, job: &Job<'_>, meter: &Meter<'_>) -> Result<(), Error> {
    let waiting = || {
        meter.update(job.name, Phase::Waiting);
    };
    let opened = if is_there(job.target, job.bytes) { None } else { Part::open(job.target, job.bytes, &waiting)? };
    let Some(mut part) = opened else {
        meter.done.fetch_add(job.bytes, Ordering::Relaxed);
        return Ok(());
    };
    loop {
        let is_resumed = part.came.contains(&true);
        let before = meter.done.load(Ordering::Relaxed);
        fetch(client, job, &part, meter)?;
        part.cut()?;
        let found = checksum(job, &part, meter)?;
        if found == job.checksum.digits() {
            return part.place(job.target);
        }
        if !is_resumed {
            part.remove();
            let expected = job.checksum.digits().to_owned();
            return Err(Error::Checksum { name: job.name.to_owned(), expected, found });
        }
        // The pieces of an earlier run were wrong.
        meter.done.store(before, Ordering::Relaxed);
        part.begin()?;
    }
}

fn checksum(job: &Job<'_>, part: &Part, meter: &Meter<'_>) -> Result<String, Error> {
    let mut seen = |done| (meter.observer)(Progress { file: job.name, phase: Phase::Checking, done, total: job.bytes });
    let found = job.checksum.of(&part.reopened()?, job.bytes, &mut seen);
    found.map_err(|source| Error::Disk { path: job.target.to_owned(), source })?.ok_or(Error::Stopped)
}

/// State shared by all connections.
struct Shared<'a> {
    client: &'a Client,
    job: &'a Job<'a>,
    part: &'a Part,
    meter: &'a Meter<'a>,
    pieces: Mutex<Vec<State>>,
    /// Pieces of one request.
    run: usize,
    pauses: Mutex<Pauses>,
    failure: Mutex<Option<Error>>,
    ended: AtomicBool,
    /// Whether the server sends only whole files.
    whole_only: AtomicBool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Missing,
    Coming,
    Here,
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Fetches the missing parts of a file.
fn fetch(client: &Client, job: &Job<'_>, part: &Part, meter: &Meter<'_>) -> Result<(), Error> {
    let pieces: Vec<State> = part.came.iter().map(|&came| if came { State::Here } else { State::Missing }).collect();
    let here: u64 = (0..pieces.len()).filter(|&piece| part.came[piece]).map(|piece| length(&part.range(piece))).sum();
    let before = meter.done.fetch_add(here, Ordering::Relaxed);
    if !meter.update(job.name, Phase::Fetching) {
        return Err(Error::Stopped);
    }
    let missing = pieces.iter().filter(|&&state| state == State::Missing).count();
    if missing == 0 {
        return Ok(());
    }
    let connections = client.options().connections.clamp(1, missing.div_ceil(PIECES_A_CONNECTION));
    let shared = Shared {
        client,
        job,
        part,
        meter,
        pieces: Mutex::new(pieces),
        run: missing.div_ceil(connections).min(RUN),
        pauses: Mutex::new(Pauses::new(client.options())),
        failure: Mutex::new(None),
        ended: AtomicBool::new(false),
        whole_only: AtomicBool::new(false),
    };
    thread::scope(|scope| {
        for _ in 0..connections {
            scope.spawn(|| shared.work());
        }
    });
    match shared.failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
        None => Ok(()),
        Some(_) if shared.whole_only.into_inner() => {
            meter.done.store(before, Ordering::Relaxed);
            fetch_whole(client, job, part, meter)
        }
        Some(error) => Err(error),
    }
}

const fn length(range: &Range<u64>) -> u64 {
    range.end - range.start
}

impl Shared<'_> {
    /// The loop of a connection: fetches runs of pieces until none is missing.
    fn work(&self) {
        while let Some(run) = self.take() {
            let Err(error) = self.fetch_run(&run) else { continue };
            let mut pieces = locked(&self.pieces);
            for piece in run {
                if pieces[piece] == State::Coming {
                    pieces[piece] = State::Missing;
                }
            }
            drop(pieces);
            let pause = {
                let mut pauses = locked(&self.pauses);
                let goes_on = error.is_passing() && pauses.count < self.client.options().retries;
                goes_on.then(|| pauses.next(&error))
            };
            match pause {
                Some(pause) => self.sleep(pause),
                None => self.fail(error),
            }
        }
    }

    fn fail(&self, error: Error) {
        locked(&self.failure).get_or_insert(error);
        self.ended.store(true, Ordering::SeqCst);
    }

    /// Sleeps, unless the download has ended.
    fn sleep(&self, pause: Duration) {
        let end = Instant::now() + pause;
        while !self.ended.load(Ordering::SeqCst) {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            thread::sleep(left.min(Duration::from_millis(50)));
        }
    }

    /// The next contiguous missing pieces.
    fn take(&self) -> Option<Range<usize>> {
        if self.ended.load(Ordering::SeqCst) {
            return None;
        }
        let mut pieces = locked(&self.pieces);
        let start = pieces.iter().position(|&state| state == State::Missing)?;
        let count = pieces[start..].iter().take(self.run).take_while(|&&state| state == State::Missing).count();
        pieces[start..start + count].fill(State::Coming);
        Some(start..start + count)
    }

    /// Fetches contiguous pieces with one request.
    fn fetch_run(&self, run: &Range<usize>) -> Result<(), Error> {
        let wanted = self.part.range(run.start).start..self.part.range(run.end - 1).end;
        let url = without_query(self.job.url);
        let answer = self.client.get(self.job.url, Some(&wanted), None)?;
        let problem = |problem: String| Error::Answer { url: url.to_owned(), problem };
        if answer.status == 200 && length(&wanted) < self.job.bytes {
            self.whole_only.store(true, Ordering::SeqCst);
            return Err(problem("the server sends whole files alone".to_owned()));
        }
        if answer.status == 206 {
            let (start, total) = answer.content_range().unwrap_or((u64::MAX, None));
            if start != wanted.start || total.is_some_and(|total| total != self.job.bytes) {
                let said = answer.header("content-range").unwrap_or("nothing").to_owned();
                return Err(problem(format!(
                    "asked for bytes {}-{} of {}, the server sends {said}",
                    wanted.start,
                    wanted.end - 1,
                    self.job.bytes
                )));
            }
        } else if answer.status != 200 || answer.length().is_some_and(|bytes| bytes != self.job.bytes) {
            let (status, bytes) = (answer.status, answer.length().unwrap_or(0));
            return Err(problem(format!(
                "a file of {} bytes was asked for, the server sends {bytes} (status {status})",
                self.job.bytes
            )));
        }
        let mut writer = Writer::new(self.part, run.clone());
        let copied = self.copy(&mut answer.into_body(), &mut writer);
        // Received pieces are kept in any case.
        let noted = writer.note();
        self.settle(&writer);
        copied.and(noted)
    }

    /// Updates the shared state with the received pieces of a run, and corrects the progress.
    fn settle(&self, writer: &Writer<'_>) {
        let mut pieces = locked(&self.pieces);
        pieces[writer.first..writer.noted].fill(State::Here);
        let kept = self.part.range(writer.noted.max(1) - 1).end;
        let kept = if writer.noted == writer.first { self.part.range(writer.first).start } else { kept };
        self.meter.done.fetch_sub(writer.at - kept, Ordering::Relaxed);
        if writer.noted > writer.first {
            locked(&self.pauses).count = 0;
        }
    }

    fn copy(&self, body: &mut impl Read, writer: &mut Writer<'_>) -> Result<(), Error> {
        let mut buffer = vec![0; 128 << 10];
        while writer.at < writer.end {
            if self.ended.load(Ordering::Relaxed) || !self.meter.update(self.job.name, Phase::Fetching) {
                return Err(Error::Stopped);
            }
            let room = usize::try_from(writer.end - writer.at).unwrap_or(usize::MAX).min(buffer.len());
            let broken = |reason: String| Error::Broken { url: without_query(self.job.url).to_owned(), reason };
            let n = body.read(&mut buffer[..room]).map_err(|error| broken(error.to_string()))?;
            if n == 0 {
                return Err(broken(format!("{} bytes of the file did not come", writer.end - writer.at)));
            }
            writer.write(&buffer[..n])?;
            self.meter.done.fetch_add(n as u64, Ordering::Relaxed);
        }
        Ok(())
    }
}

/// Writes a run of pieces, and records complete ones from time to time.
struct Writer<'a> {
    part: &'a Part,
    first: usize,
    last: usize,
    /// Pieces before this one are recorded.
    noted: usize,
    noted_at: Instant,
    /// The next byte.
    at: u64,
    end: u64,
}

impl<'a> Writer<'a> {
    fn new(part: &'a Part, run: Range<usize>) -> Self {
        let (at, end) = (part.range(run.start).start, part.range(run.end - 1).end);
        Self { part, first: run.start, last: run.end, noted: run.start, noted_at: Instant::now(), at, end }
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.part.write(bytes, self.at)?;
        self.at += bytes.len() as u64;
        if self.noted_at.elapsed() >= NOTED_EVERY { self.note() } else { Ok(()) }
    }

    /// Records the complete pieces.
    fn note(&mut self) -> Result<(), Error> {
        let whole =
            if self.at == self.end { self.last } else { usize::try_from(self.at / PIECE_BYTES).unwrap_or(self.noted) };
        self.part.note(self.noted..whole.max(self.noted))?;
        self.noted = whole.max(self.noted);
        self.noted_at = Instant::now();
        Ok(())
    }
}

/// Fetches a whole file over one connection, for servers without range requests.
fn fetch_whole(client: &Client, job: &Job<'_>, part: &Part, meter: &Meter<'_>) -> Result<(), Error> {
    let before = meter.done.load(Ordering::Relaxed);
    let all = 0..usize::try_from(job.bytes.div_ceil(PIECE_BYTES)).unwrap_or(usize::MAX);
    client.retried(u32::MAX, || {
        meter.done.store(before, Ordering::Relaxed);
        let shared = Shared {
            client,
            job,
            part,
            meter,
            pieces: Mutex::new(vec![State::Coming; all.len()]),
            run: all.len(),
            pauses: Mutex::new(Pauses::new(client.options())),
            failure: Mutex::new(None),
            ended: AtomicBool::new(false),
            whole_only: AtomicBool::new(false),
        };
        shared.fetch_run(&all)
    })
}
