//! Changes of models over HTTP, where the server was started so: what Ollama's clients ask for under `/api`, and the search of the
//! page. The work is that of `modelfile`, `stores` and `net`.

use std::io::{self, Read};
use std::pin::Pin;
use std::sync::Arc;

use hyper::body::{Body as _, Bytes, Incoming};
use serde_json::{Map, Value as Json, json};
use tokio::sync::mpsc;

use super::BODY_TIME;
use super::blocking::blocking;
use super::call::Call;
use super::failure::Failure;
use super::fields::Fields;
use super::manager::Manager;
use super::reply::{Form, Reply};
use crate::modelfile::{self, Additions, Base, Created, Request, Status, parse_parameter};
use crate::quantize::FileType;
use crate::stores::{self, BlobStore, Digest, Fetched, Located, ModelName, Places, Removal, Store, StoreError};

/// Pieces of an upload that wait to be written.
const PIECES: usize = 8;

/// The manager of a request, if clients may change models.
fn manager(call: &Call) -> Result<Arc<Manager>, Failure> {
    let refused = || Failure::forbidden("models are not changed over HTTP (--manage allows it)");
    call.manager.clone().ok_or_else(refused)
}

/// Tells a client what is being done; false when it has gone.
type Tell<'t> = dyn Fn(Json) -> bool + Sync + 't;

/// Lines that say how far `work` is, or with `stream: false` the last of them.
async fn reported(
    fields: Fields<'_>,
    work: impl FnOnce(&Tell<'_>) -> Result<Json, Failure> + Send + 'static,
) -> Result<Reply, Failure> {
    if !fields.flag_or("stream", true)? {
        return blocking(move || work(&|_| true)).await.map(Reply::Json);
    }
    let (sender, mut receiver) = mpsc::unbounded_channel();
    tokio::task::spawn_blocking(move || {
        let last = work(&|line| sender.send(line).is_ok());
        let _ = sender.send(last.unwrap_or_else(|failure| json!({ "error": failure.message })));
    });
    Ok(Reply::stream(Form::Lines, |sink| async move {
        while let Some(line) = receiver.recv().await {
            sink.send(&line).await;
        }
    }))
}

/// The model of a field; older clients use the field `name`.
fn model_field(fields: Fields<'_>) -> Result<String, Failure> {
    let name = fields.text("model")?.filter(|name| !name.is_empty()).or(fields.text("name")?);
    name.filter(|name| !name.is_empty()).map(str::to_owned).ok_or_else(|| Failure::field("model", "is required"))
}

/// A model of a store by its name, which is never a path.
fn find(name: &str) -> Result<Located, Failure> {
    Places::from_environment().find(name).map_err(|error| match error {
        stores::Error::Several { .. } => Failure::invalid(error.to_string()),
        _ => Failure::model_not_found(name),
    })
}

/// Offers a model that has come.
fn offer(call: &Call, manager: &Manager, located: &Located) -> Result<(), Failure> {
    let offer = (manager.offer)(located).map_err(Failure::server)?;
    call.models().add(offer);
    Ok(())
}

/// `POST /api/pull`.
#[cfg(feature = "net")]
pub(super) async fn pull(call: Call) -> Result<Reply, Failure> {
    use crate::net::{Plan, PullOptions, Wanted};
    let body = call.object()?;
    let (fields, manager) = (Fields(&body), manager(&call)?);
    let name = model_field(fields)?;
    // Who may ask this server must not make it ask any other.
    if !manager.settings.is_of_usual_server(&name) {
        return Err(Failure::field("model", "must be a repository of Hugging Face or a model of Ollama's registry"));
    }
    let asked = manager.clone();
    let plan = blocking(move || {
        let options = PullOptions {
            wanted: Wanted::Model { projector: false },
            revision: None,
            room: crate::memory::available(),
        };
        Plan::new(&asked.settings, &name, &options).map_err(|error| net_failure(&error))
    });
    let plan = plan.await?;
    let work = move |tell: &Tell<'_>| {
        tell(json!({ "status": "pulling manifest" }));
        fetch(&manager, &plan, tell)?;
        let located = find(&plan.name)?;
        offer(&call, &manager, &located)?;
        Ok(json!({ "status": "success", "model": located.name }))
    };
    reported(fields, work).await
}

/// There is nothing to fetch with.
#[cfg(not(feature = "net"))]
pub(super) async fn pull(call: Call) -> Result<Reply, Failure> {
    manager(&call)?;
    Err(Failure::not_done("this build fetches no models"))
}

/// Fetches the files of a plan.
#[cfg(feature = "net")]
fn fetch(manager: &Manager, plan: &crate::net::Plan, tell: &Tell<'_>) -> Result<(), Failure> {
    use crate::net::Phase;
    let new: Vec<_> = plan.entries().into_iter().filter(|path| !path.exists()).collect();
    let last = std::sync::Mutex::new((String::new(), 0_u64));
    let observer = |progress: crate::net::Progress<'_>| {
        let at = plan.files.iter().position(|file| file.name == progress.file);
        let Some(file) = at.and_then(|at| plan.files.get(at)) else { return true };
        let before: u64 = plan.files.iter().take(at.unwrap_or(0)).map(|file| file.bytes).sum();
        let pulling = |completed: u64| {
            let digest = file.sha256().unwrap_or_default();
            let id = digest.get(..12).unwrap_or(&file.name);
            json!({
                "status": format!("pulling {id}"), "digest": format!("sha256:{digest}"), "total": file.bytes,
                "completed": completed, "file": file.name,
            })
        };
        let line = match progress.phase {
            Phase::Waiting => json!({ "status": format!("waiting for another program that fetches {}", file.name) }),
            Phase::Checking => json!({ "status": "verifying sha256 digest" }),
            Phase::Fetching => pulling(progress.done.saturating_sub(before).min(file.bytes)),
        };
        // The same line again, or less than a hundredth more, tells nothing.
        let key = line["status"].as_str().unwrap_or_default().to_owned();
        let done = line["completed"].as_u64().unwrap_or(0);
        let mut last = last.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if last.0 == key && done.saturating_sub(last.1) < (file.bytes / 100).max(1) && done != file.bytes {
            return true;
        }
        // A file that is checked has come whole, which the last look at its fetching may not have seen.
        let whole = (progress.phase == Phase::Checking && last.0.starts_with("pulling") && last.1 < file.bytes)
            .then(|| pulling(file.bytes));
        *last = (key, done);
        drop(last);
        whole.is_none_or(tell) && tell(line)
    };
    plan.fetch(&manager.settings, &observer).map_err(|error| net_failure(&error))?;
    tell(json!({ "status": "writing manifest" }));
    // Where the list cannot be written, `gguf rm` asks before it removes the model: that is no reason to fail.
    let _ = Fetched::from_environment().add(&new);
    Ok(())
}

#[cfg(feature = "net")]
fn net_failure(error: &crate::net::Error) -> Failure {
    use crate::net::Error;
    match error {
        Error::Missing { .. } | Error::NoModel { .. } | Error::NoFile { .. } => Failure::not_found(error.to_string()),
        Error::Name { .. } => Failure::invalid(error.to_string()),
        Error::Disk { .. } => Failure::server("the disk cannot be written"),
        _ => Failure::unavailable(error.to_string()),
    }
}

/// `POST /models/browse`: the repositories that a text finds, or the models of one with their badges.
#[cfg(feature = "net")]
pub(super) async fn browse(call: Call) -> Result<Reply, Failure> {
    use crate::net::{BadgeOptions, badges, model_json, offers, search};
    const MOST_CONTEXT: u32 = 1 << 30;
    let body = call.object()?;
    let (fields, manager) = (Fields(&body), manager(&call)?);
    let text = fields.text("text")?.unwrap_or_default().to_owned();
    let repository = fields.text("repository")?.map(str::to_owned);
    let context = fields.count("context", 1, MOST_CONTEXT)?;
    let limit = fields.count("limit", 1, 100)?.and_then(|n| u16::try_from(n).ok()).unwrap_or(20);
    let speed = fields.flag_or("speed", true)?;
    let work = move || {
        let Some(repository) = repository else {
            let hits = search(&manager.settings, &text, limit).map_err(|error| net_failure(&error))?;
            let hit = |hit: &crate::net::SearchHit| {
                json!({
                    "name": hit.name, "downloads": hit.downloads, "likes": hit.likes, "parameters": hit.parameters,
                    "architecture": hit.architecture, "gated": hit.is_gated,
                })
            };
            return Ok(json!({ "repositories": hits.iter().map(hit).collect::<Vec<_>>() }));
        };
        let offers = offers(&manager.settings, &repository).map_err(|error| net_failure(&error))?;
        let options = BadgeOptions { context, kv_type: crate::cpu::KvType::F16, speed };
        let badges = badges(&manager.settings, &offers, &options, &manager.pool);
        let models = offers.models.iter().zip(&badges).map(|(model, badge)| model_json(&offers, model, badge));
        let available = crate::memory::available();
        Ok(
            json!({ "repository": offers.repository, "available_bytes": available, "models": models.collect::<Vec<_>>() }),
        )
    };
    blocking(work).await.map(Reply::Json)
}

/// There is nothing to search with.
#[cfg(not(feature = "net"))]
pub(super) async fn browse(call: Call) -> Result<Reply, Failure> {
    manager(&call)?;
    Err(Failure::not_done("this build fetches no models"))
}

/// `POST /api/copy`.
pub(super) async fn copy(call: Call) -> Result<Reply, Failure> {
    let body = call.object()?;
    let (fields, manager) = (Fields(&body), manager(&call)?);
    let name = |field| fields.text(field)?.map(str::to_owned).ok_or_else(|| Failure::field(field, "is required"));
    let (source, destination) = (name("source")?, name("destination")?);
    let work = move || {
        let destination = model_name("destination", &destination)?;
        let copied = modelfile::copy(&manager.store(), &find(&source)?, &destination, &|_| true);
        let (store, made) = copied.map_err(|error| made_failure(&error))?;
        note(&call, &manager, &store, &made)?;
        Ok(Reply::Empty(200))
    };
    blocking(work).await
}

/// Notes that a made model is ours, and offers it.
fn note(call: &Call, manager: &Manager, store: &BlobStore, made: &Created) -> Result<(), Failure> {
    // See `fetch`.
    let _ = Fetched::from_environment().add(&made.new_files(store));
    offer(call, manager, &find(&made.name)?)
}

fn model_name(field: &str, name: &str) -> Result<ModelName, Failure> {
    ModelName::parse(name).ok_or_else(|| Failure::field(field, "must be the name of a model (MODEL[:TAG])"))
}

/// `DELETE /api/delete`. Only what this program has fetched or made is removed.
pub(super) async fn delete(call: Call) -> Result<Reply, Failure> {
    let body = call.object()?;
    let (fields, _) = (Fields(&body), manager(&call)?);
    let name = model_field(fields)?;
    let work = move || {
        let located = find(&name)?;
        let mut fetched = Fetched::from_environment();
        let removal = Removal::of(&located, &fetched);
        if !removal.is_ours {
            let store = located.store.name();
            let problem = format!("model '{name}' belongs to {store}: `gguf rm --force` on its machine removes it");
            return Err(Failure::forbidden(problem));
        }
        call.models().remove(&located.name);
        removal.run().map_err(|_| Failure::server("the model cannot be removed"))?;
        let _ = fetched.remove(&[removal.names, removal.blobs].concat());
        Ok(Reply::Empty(200))
    };
    blocking(work).await
}

fn digest(text: &str) -> Result<Digest, Failure> {
    Digest::parse(text).ok_or_else(|| Failure::invalid("invalid digest format"))
}

/// `HEAD /api/blobs/sha256:...`.
pub(super) async fn has_blob(call: Call) -> Result<Reply, Failure> {
    let (manager, digest) = (manager(&call)?, digest(&call.rest)?);
    let found = blocking(move || Ok(manager.store.find(&digest).is_some())).await?;
    if found { Ok(Reply::Empty(200)) } else { Err(Failure::not_found("there is no such blob")) }
}

/// `POST /api/blobs/sha256:...`.
pub(super) async fn take_blob(mut call: Call) -> Result<Reply, Failure> {
    let (manager, digest) = (manager(&call)?, digest(&call.rest)?);
    if manager.store.find(&digest).is_some() {
        return Ok(Reply::Empty(200));
    }
    let (sender, pieces) = mpsc::channel(PIECES);
    let receiving = blocking(move || {
        let mut reader = Pieces { pieces, rest: Bytes::new() };
        let blob = manager.store.receive(&digest, &mut reader).map_err(|error| match error {
            StoreError::OtherBytes { .. } => Failure::invalid(error.to_string()),
            StoreError::Read { .. } => Failure::invalid("the body has not come whole"),
            _ => Failure::server("the blob cannot be written"),
        })?;
        let _ = Fetched::from_environment().add(&[manager.store.path(&blob.digest)]);
        Ok(Reply::Empty(201))
    });
    let receiving = tokio::spawn(receiving);
    if let Some(body) = call.upload.take() {
        send(body, &sender).await;
    }
    drop(sender);
    receiving.await.unwrap_or_else(|_| Err(Failure::server("internal error")))
}

/// Sends the pieces of a body as they come; an error where they stop coming.
async fn send(mut body: Incoming, sender: &mpsc::Sender<io::Result<Bytes>>) {
    let broken = || Err(io::Error::from(io::ErrorKind::UnexpectedEof));
    loop {
        let next = std::future::poll_fn(|context| Pin::new(&mut body).poll_frame(context));
        let piece = match tokio::time::timeout(BODY_TIME, next).await {
            Ok(None) => return,
            Ok(Some(Ok(frame))) => frame.into_data().map_or_else(|_| Ok(Bytes::new()), Ok),
            Ok(Some(Err(_))) | Err(_) => broken(),
        };
        let is_last = piece.is_err();
        if sender.send(piece).await.is_err() || is_last {
            return;
        }
    }
}

/// The pieces of a body as one text.
struct Pieces {
    pieces: mpsc::Receiver<io::Result<Bytes>>,
    rest: Bytes,
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.rest.is_empty() {
            match self.pieces.blocking_recv() {
                None => return Ok(0),
                Some(piece) => self.rest = piece?,
            }
        }
        let taken = self.rest.split_to(buffer.len().min(self.rest.len()));
        buffer[..taken.len()].copy_from_slice(&taken);
        Ok(taken.len())
    }
}

/// `POST /api/create`.
pub(super) async fn create(call: Call) -> Result<Reply, Failure> {
    let body = call.object()?;
    let (fields, manager) = (Fields(&body), manager(&call)?);
    let request = request(fields)?;
    let store = manager.store();
    let checked = (store.clone(), request.name.clone());
    blocking(move || checked.0.check_name(&checked.1).map_err(|error| made_failure(&error.into()))).await?;
    let work = move |tell: &Tell<'_>| {
        let observer = |status: Status<'_>| tell(status_line(&status));
        let made = modelfile::create(&store, &request, &observer).map_err(|error| made_failure(&error))?;
        note(&call, &manager, &store, &made)?;
        Ok(json!({ "status": "success" }))
    };
    reported(fields, work).await
}

/// What a request for a model says.
fn request(fields: Fields<'_>) -> Result<Request, Failure> {
    let name = model_name("model", &model_field(fields)?)?;
    let blobs = |field: &'static str| -> Result<Vec<Base>, Failure> {
        let named = fields.object(field)?.map(|files| files.0.clone()).unwrap_or_default();
        let blob = |(file, digits): (&String, &Json)| {
            let wrong = || Failure::field(field, format!("{file}: must be the digest of a blob (sha256:...)"));
            digits.as_str().and_then(Digest::parse).map(Base::Blob).ok_or_else(wrong)
        };
        named.iter().map(blob).collect()
    };
    let base = match (fields.text("from")?.filter(|from| !from.is_empty()), blobs("files")?.as_slice()) {
        (Some(from), _) => {
            let located = find(from)?;
            if located.store == Store::Path { Base::File(located.path) } else { Base::Model(Box::new(located)) }
        }
        (None, [file]) => file.clone(),
        (None, []) => return Err(Failure::invalid("neither 'from' or 'files' was specified")),
        (None, _) => return Err(Failure::field("files", "must be one GGUF file")),
    };
    let mut parameters = Map::new();
    for (name, value) in fields.object("parameters")?.map(|all| all.0.clone()).unwrap_or_default() {
        let text = |value: &Json| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let values =
            if let Json::Array(values) = &value { values.iter().map(text).collect() } else { vec![text(&value)] };
        for value in values {
            parse_parameter(&mut parameters, &name, &value).map_err(|error| made_failure(&error))?;
        }
    }
    let message = |message: &Json| {
        let text = |name: &str| message[name].as_str().map(str::to_owned);
        text("role").zip(text("content")).ok_or_else(|| Failure::field("messages", "must have roles and contents"))
    };
    let quantize = fields.text("quantize")?.filter(|ty| !ty.is_empty());
    let file_type = |ty: &str| {
        let found = FileType::from_name(ty).filter(|found| found.is_writable());
        found.ok_or_else(|| Failure::field("quantize", format!("there is no type {ty}")))
    };
    Ok(Request {
        name,
        base,
        adapters: blobs("adapters")?,
        additions: Additions {
            template: fields.text("template")?.map(str::to_owned).filter(|text| !text.is_empty()),
            system: fields.text("system")?.map(str::to_owned).filter(|text| !text.is_empty()),
            licenses: fields.texts("license")?,
            messages: fields.list("messages")?.into_iter().flatten().map(message).collect::<Result<_, _>>()?,
            parameters,
            for_ollama: Vec::new(),
        },
        quantize: quantize.map(file_type).transpose()?,
    })
}

/// A status in Ollama's words.
fn status_line(status: &Status<'_>) -> Json {
    match status {
        Status::Reading => json!({ "status": "parsing GGUF" }),
        Status::Writing => json!({ "status": "writing manifest" }),
        Status::Layer(layer) => {
            let is_new = layer.blob.origin != crate::stores::Origin::Existing;
            let what = if is_new { "creating new layer" } else { "using existing layer" };
            json!({ "status": format!("{what} {}", layer.blob.digest) })
        }
        Status::Quantizing { from, to, progress } => json!({
            "status": format!("quantizing {from} model to {to}"), "digest": "0000000000000000000", "total": progress.total,
            "completed": progress.done,
        }),
    }
}

/// An error of making a model. What is wrong with files of the server is not said in detail: that would name paths.
fn made_failure(error: &modelfile::Error) -> Failure {
    use modelfile::Error;
    match error {
        Error::Store(StoreError::Foreign { .. }) => Failure::forbidden(error.to_string()),
        Error::Split { .. } => Failure::invalid("a model of several files: `gguf merge` makes one of them"),
        Error::NoAdapter { .. } => Failure::invalid("no adapter (LoRA) in GGUF form"),
        Error::Gguf(_) => Failure::invalid("the file is no model in GGUF form"),
        Error::Store(_) | Error::Manifest { .. } => Failure::server("the store cannot be read or written"),
        _ => Failure::invalid(error.to_string()),
    }
}
