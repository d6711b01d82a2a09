//! `gguf serve`: models over HTTP. The server itself is the library's `serve`.

use std::net::{IpAddr, SocketAddr, TcpListener, ToSocketAddrs as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, bail, ensure};
use gguf_toolkit::cpu::SequenceOptions;
use gguf_toolkit::engine::{Batcher, BatcherOptions, EmbeddingOptions, SessionOptions, SpeculationOptions};
use gguf_toolkit::gguf::Reader;
use gguf_toolkit::kernels::Pool;
use gguf_toolkit::model::Model;
use gguf_toolkit::modelfile::Setup;
use gguf_toolkit::printable::{printable, printable_path};
use gguf_toolkit::serve::{
    Access, KeepAlive, Labels, Load, Log, Manager, Offer, RequestDefaults, ServedModel, Server, ServerOptions,
};
use gguf_toolkit::stores::{Located, Places, Store};

use crate::chat::SamplingArgs;
use crate::interrupt::Catching;
use crate::model_args::{self, PoolingArg, RunArgs};
use crate::speculation::SpeculationArgs;
use crate::units;

/// Serves models over HTTP, as OpenAI, Anthropic, llama-server and Ollama do: any client of theirs works. Browsers get a page to chat
/// with.
///
/// Many requests are computed at once, and each gets the text that it would get alone. Routes, fields and limits are listed in
/// docs/serving.md. Ctrl-C lets the requests under way end, for half a minute; a second one ends at once. Any option may stand in the
/// environment, too, as GGUF_SERVE_ and its name: GGUF_SERVE_PORT=9000.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:
  gguf serve                                  # the embedded model, at http://127.0.0.1:8080
  gguf serve model.gguf --port 9000 --parallel 4 --ctx 8192
  gguf serve model.gguf q4_k_m.gguf           # several models, each by its name
  gguf serve model.gguf q4_k_m.gguf --on-demand   # each loaded when it is asked for; without a name, all of `gguf list`
  gguf serve model.gguf --host 0.0.0.0 --api-key-file keys.txt")]
pub(crate) struct Args {
    /// Models: files or names (default: the embedded one)
    #[arg(value_name = "MODEL")]
    models: Vec<PathBuf>,
    /// Address to listen at, several times (or with commas) for several; one beyond this machine needs a key
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1", value_delimiter = ',')]
    host: Vec<String>,
    /// Port; 0 for any free one
    #[arg(long, short, value_name = "N", default_value_t = 8080)]
    port: u16,
    /// Key that requests have to bring, several times for several; also from GGUF_API_KEY
    #[arg(long, value_name = "KEY")]
    api_key: Vec<String>,
    /// File with such keys, one a line
    #[arg(long, value_name = "FILE")]
    api_key_file: Option<PathBuf>,
    /// Listen beyond this machine without a key
    #[arg(long)]
    insecure: bool,
    /// Name of this machine that clients may use besides localhost
    #[arg(long, value_name = "NAME")]
    allow_host: Vec<String>,
    /// Origin whose web pages may ask and read (https://chat.example.org); localhost for this machine's, * for all
    #[arg(long, value_name = "ORIGIN")]
    allow_origin: Vec<String>,
    /// Name of the first model, in place of its file's; given again, further names
    #[arg(long, short, value_name = "NAME")]
    alias: Vec<String>,
    /// Word that lists of models show of the first one, for clients; several times (or with commas) for several
    #[arg(long = "tag", value_name = "TAG", alias = "tags", value_delimiter = ',')]
    tags: Vec<String>,
    /// Answer for models of unknown names with the first one, where this is an error otherwise
    #[arg(long)]
    any_model: bool,
    /// No page for browsers at /
    #[arg(long, alias = "no-webui")]
    no_page: bool,
    /// Let clients fetch, make, copy and remove models, and search Hugging Face
    #[arg(long)]
    manage: bool,
    /// Report of `gguf compare --html`, which browsers get at /report
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Folder in which clients may keep the states of slots, with llama-server's POST /slots/N?action=save and restore
    #[arg(long, value_name = "FOLDER")]
    slot_save_path: Option<PathBuf>,
    /// No answer at /slots
    #[arg(long)]
    no_slots: bool,
    /// No answer at /metrics
    #[arg(long)]
    no_metrics: bool,
    /// Most tokens of a request, prompt and answer (default: what the model was trained on, as far as memory holds it)
    #[arg(long, short, value_name = "N", aliases = ["context", "ctx-size"], value_parser = clap::value_parser!(u32).range(1..))]
    ctx: Option<u32>,
    /// Requests that are computed at once
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=1024))]
    parallel: u16,
    /// Requests that may wait besides; further ones are asked to come again
    #[arg(long, value_name = "N", default_value_t = 64)]
    queue: u16,
    /// MiB for the caches of each model (default: half of the free memory, shared by all)
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u32).range(1..))]
    cache_memory: Option<u32>,
    /// Load models when they are first asked for; without MODEL, all that `gguf list` shows are offered
    #[arg(long)]
    on_demand: bool,
    /// How long a model stays loaded after its last request: seconds, or 5m, 1h30m; -1 for ever (default: 5m with --on-demand; for
    /// ever otherwise, or it sleeps until the next request)
    #[arg(long, value_name = "TIME", alias = "sleep-idle-seconds", allow_hyphen_values = true, value_parser = KeepAlive::parse)]
    keep_alive: Option<KeepAlive>,
    /// MiB that models and their caches may take: the one longest unused makes room (default: the free memory)
    #[arg(long, value_name = "MIB", requires = "on_demand", value_parser = clap::value_parser!(u32).range(1..))]
    memory: Option<u32>,
    /// In place of the models' own chat templates: a Jinja file, or the name of one of llama.cpp's
    #[arg(long, value_name = "NAME|FILE", alias = "chat-template-file")]
    chat_template: Option<PathBuf>,
    /// Let models think before they answer where a request does not say, as far as their templates can
    #[arg(long, conflicts_with = "no_think")]
    think: bool,
    /// Let them not: a thought that the template begins is ended at once
    #[arg(long)]
    no_think: bool,
    /// Most tokens of an answer where a request does not say
    #[arg(long, short = 'n', value_name = "N", aliases = ["n-predict", "predict"])]
    max_tokens: Option<u32>,
    /// How embeddings are made of hidden states [default: what the file says]
    #[arg(long, value_name = "KIND")]
    pooling: Option<PoolingArg>,
    #[command(flatten)]
    run: RunArgs,
    #[command(flatten)]
    speculation: SpeculationArgs,
    /// Tell of each request on standard error: method, path, status, time; answers to chats have their prompt (`__verbose`)
    #[arg(long, short)]
    verbose: bool,
    // Last: its heading stands over all that follows.
    #[command(flatten)]
    sampling: SamplingArgs,
}

/// Lets `GGUF_SERVE_` and the name of an option stand for it, where the command line does not have it.
pub(crate) fn from_environment(arg: clap::Arg) -> clap::Arg {
    let Some(name) = arg.get_long().filter(|name| *name != "help") else { return arg };
    let variable = format!("GGUF_SERVE_{}", name.replace('-', "_").to_ascii_uppercase());
    // Of as long a life as the program's: there are a few dozen.
    let arg = arg.env(variable.leak() as &str).hide_env(true);
    // A switch is on by any value but 0, no, off, false and nothing.
    if matches!(arg.get_action(), clap::ArgAction::SetTrue) {
        arg.value_parser(clap::builder::FalseyValueParser::new())
    } else {
        arg
    }
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let inherited = inherited()?;
    let addresses: Vec<SocketAddr> = if inherited.is_empty() {
        args.host.iter().map(|host| address(host.trim(), args.port)).collect::<anyhow::Result<_>>()?
    } else {
        inherited.iter().map(TcpListener::local_addr).collect::<std::io::Result<_>>()?
    };
    let keys = keys(args)?;
    let beyond = addresses.iter().find(|address| !address.ip().is_loopback());
    if let Some(address) = beyond.filter(|_| keys.is_empty() && !args.insecure) {
        bail!("{} is reached from other machines: give --api-key, or --insecure to serve anybody", address.ip());
    }
    let loader = Arc::new(Loader::new(args)?);
    let offers = offers(args, &loader)?;
    let served: Vec<String> = offers.iter().map(describe).collect();
    let first = offers[0].id().to_owned();
    let access = Access { keys, hosts: args.allow_host.clone(), origins: args.allow_origin.clone() };
    let needs_key = !access.keys.is_empty();
    let memory = match args.memory {
        Some(mib) => u64::from(mib) << 20,
        None => gguf_toolkit::memory::available().unwrap_or(u64::MAX),
    };
    let report = args.report.as_deref().map(model_args::read_text).transpose()?;
    let usual = ServerOptions::default();
    let options = ServerOptions {
        access,
        any_model: args.any_model,
        memory,
        keep_alive: args.keep_alive.unwrap_or(usual.keep_alive),
        page: !args.no_page,
        report,
        slots: !args.no_slots,
        metrics: !args.no_metrics,
        verbose: args.verbose,
        slot_files: args.slot_save_path.as_deref().map(folder).transpose()?,
        ..usual
    };
    let manager = args.manage.then(|| manager(&loader)).transpose()?;
    let listed = || addresses.iter().map(SocketAddr::to_string).collect::<Vec<_>>().join(", ");
    let log = log(args.verbose);
    let server = if inherited.is_empty() {
        Server::bind(&addresses, offers, options, manager, log)
    } else {
        Server::on(inherited, offers, options, manager, log)
    };
    let server = server.with_context(|| format!("cannot listen at {}", listed()))?;
    crate::faults::raise_open_files();
    let catching = Catching::new();
    model_args::print(&welcome(server.addresses(), &served, &first, args.no_page, needs_key))?;
    let stopping = std::sync::Once::new();
    server.run(&|| {
        let stop = catching.interrupted();
        if stop {
            stopping.call_once(|| eprintln!("stopping: requests under way may end (Ctrl-C again ends at once)"));
        }
        stop
    })?;
    Ok(ExitCode::SUCCESS)
}

/// The sockets that systemd has started the program with, as its LISTEN_FDS says.
fn inherited() -> anyhow::Result<Vec<TcpListener>> {
    const FIRST: i32 = 3;
    let number = |name: &str| std::env::var(name).ok().and_then(|value| value.parse::<i32>().ok());
    let is_ours = number("LISTEN_PID").is_some_and(|id| u32::try_from(id) == Ok(std::process::id()));
    let count = number("LISTEN_FDS").filter(|_| is_ours).unwrap_or(0);
    let listener = |i: i32| {
        let listener = gguf_toolkit::files::inherited_listener(FIRST.saturating_add(i));
        listener.with_context(|| format!("socket {i} of LISTEN_FDS is no TCP socket"))
    };
    (0..count).map(listener).collect()
}

/// The folder, which has to be there.
fn folder(path: &Path) -> anyhow::Result<PathBuf> {
    ensure!(path.is_dir(), "{}: not a folder: make it first (--slot-save-path)", printable_path(path));
    Ok(path.to_owned())
}

fn address(host: &str, port: u16) -> anyhow::Result<SocketAddr> {
    let found = (host.trim_matches(['[', ']']), port).to_socket_addrs().with_context(|| format!("host {host}"))?;
    let mut all: Vec<SocketAddr> = found.collect();
    // `localhost` may be both: clients try 127.0.0.1 first.
    all.sort_by_key(SocketAddr::is_ipv6);
    all.first().copied().with_context(|| format!("host {host} has no address"))
}

fn keys(args: &Args) -> anyhow::Result<Vec<String>> {
    let mut keys = args.api_key.clone();
    keys.extend(std::env::var("GGUF_API_KEY").ok());
    if let Some(path) = &args.api_key_file {
        keys.extend(model_args::read_text(path)?.lines().map(|line| line.trim().to_owned()));
        keys.retain(|key| !key.is_empty());
        ensure!(!keys.is_empty(), "{}: no key", printable_path(path));
    }
    ensure!(keys.iter().all(|key| !key.is_empty()), "a key must not be empty");
    Ok(keys)
}

/// A model that is served.
struct Named {
    /// Its name.
    id: String,
    /// Its other names.
    aliases: Vec<String>,
    /// Where it was found; `None` for the embedded one.
    located: Option<Located>,
    reader: Reader,
}

impl Named {
    /// What it was made with besides its file.
    fn setup(&self) -> Setup {
        self.located.as_ref().map(|located| model_args::setup(located, &self.reader)).unwrap_or_default()
    }
}

/// The models, loaded or to be loaded.
fn offers(args: &Args, loader: &Arc<Loader>) -> anyhow::Result<Vec<Offer>> {
    let mut named = named(args)?;
    ensure!(!named.is_empty(), "no models found: `gguf list` shows where models are looked for");
    if let [name, further @ ..] = args.alias.as_slice() {
        let first = &mut named[0];
        first.aliases.push(std::mem::replace(&mut first.id, name.clone()));
        first.aliases.extend_from_slice(further);
    }
    let mut labels = Labels { aliases: args.alias.clone(), tags: args.tags.clone() };
    let cache_bytes = cache_bytes(args);
    let sleeps = matches!(args.keep_alive, Some(KeepAlive::For(_)));
    let mut offer = |named: Named| -> anyhow::Result<Offer> {
        let labels = std::mem::take(&mut labels);
        if args.on_demand {
            return Ok(loader.on_demand(named).labelled(labels));
        }
        let setup = named.setup();
        let model = loader.load(&named.id, &named.reader, &setup, cache_bytes)?;
        let offer = if sleeps {
            let load = loader.later(&named, &setup);
            Offer::sleeping(&named.reader, named.aliases, model, load)
        } else {
            Offer::loaded(&named.reader, named.aliases, model)
        };
        let offer = offer.labelled(labels);
        Ok(match named.located {
            Some(located) => offer.found(located, &setup),
            None => offer,
        })
    };
    named.into_iter().map(&mut offer).collect()
}

fn named(args: &Args) -> anyhow::Result<Vec<Named>> {
    if args.models.is_empty() && !args.on_demand {
        let (id, reader) = ("storyteller".to_owned(), model_args::embedded()?);
        return Ok(vec![Named { id, aliases: Vec::new(), located: None, reader }]);
    }
    let mut all: Vec<Named> = Vec::new();
    if args.models.is_empty() {
        for entry in Places::from_environment().list() {
            let located = entry.located;
            match Reader::open(&located.path) {
                Ok(_) if all.iter().any(|other| other.id == located.name) => {}
                Ok(reader) => {
                    all.push(Named { id: located.name.clone(), aliases: Vec::new(), located: Some(located), reader });
                }
                Err(error) => eprintln!("{}: left out: {error}", printable(&located.name)),
            }
        }
    }
    for name in &args.models {
        let located = model_args::locate(name)?;
        let stem = located.path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let (id, aliases) = if located.store == Store::Path {
            (stem, vec![name.to_string_lossy().into_owned()])
        } else {
            (located.name.clone(), vec![stem])
        };
        ensure!(all.iter().all(|other| other.id != id), "two models are called {}", printable(&id));
        let reader = Reader::open(&located.path)?;
        all.push(Named { id, aliases, located: Some(located), reader });
    }
    Ok(all)
}

/// What changes models, for clients.
fn manager(loader: &Arc<Loader>) -> anyhow::Result<Manager> {
    let (loader, pool) = (loader.clone(), loader.pool.clone());
    let offer = move |located: &Located| {
        let reader = Reader::open(&located.path).map_err(|_| "the model cannot be read".to_owned())?;
        let (id, located) = (located.name.clone(), Some(located.clone()));
        Ok(loader.on_demand(Named { id, aliases: Vec::new(), located, reader }))
    };
    Ok(Manager {
        store: crate::create::own_store(true)?,
        offer: Box::new(offer),
        #[cfg(feature = "net")]
        settings: gguf_toolkit::net::Settings::from_environment(gguf_toolkit::net::ClientOptions::default())?,
        pool,
    })
}

/// What loads models.
struct Loader {
    args: Args,
    pool: Arc<Pool>,
    template: Option<String>,
    /// The draft model of all of them.
    draft: Option<Arc<Model>>,
}

impl Loader {
    fn new(args: &Args) -> anyhow::Result<Self> {
        Ok(Self {
            pool: args.run.pool()?,
            template: args.chat_template.as_deref().map(crate::chat::template).transpose()?,
            draft: args.speculation.load(&args.run)?,
            args: args.clone(),
        })
    }

    /// A model that is loaded when it is asked for.
    fn on_demand(self: &Arc<Self>, named: Named) -> Offer {
        let setup = named.setup();
        let load = self.later(&named, &setup);
        let offer = Offer::on_demand(&named.reader, named.id, named.aliases, load);
        match named.located {
            Some(located) => offer.found(located, &setup),
            None => offer,
        }
    }

    /// Loads a model when it is asked for.
    fn later(self: &Arc<Self>, named: &Named, setup: &Setup) -> Load {
        let (loader, name, path) = (self.clone(), named.id.clone(), named.reader.path().to_owned());
        let setup = setup.clone();
        let open = move || {
            if path == Path::new(model_args::EMBEDDED) { model_args::embedded() } else { Ok(Reader::open(&path)?) }
        };
        Box::new(move |bytes: u64| {
            let bytes = args_bytes(&loader.args).unwrap_or(bytes);
            let load = || loader.load(&name, &open()?, &setup, usize::try_from(bytes).unwrap_or(usize::MAX));
            // What goes wrong is said here; clients learn no paths.
            load().map_err(|error| {
                eprintln!("error: {}: {error:#}", printable(&name));
                format!("model '{name}' cannot be loaded")
            })
        })
    }

    fn load(&self, id: &str, reader: &Reader, setup: &Setup, cache_bytes: usize) -> anyhow::Result<ServedModel> {
        let args = &self.args;
        let model = args.run.with_adapters(&setup.adapters).model(reader)?;
        for warning in model.warnings() {
            eprintln!("warning: {}: {warning}", printable_path(reader.path()));
        }
        let model = Arc::new(model);
        let context = args.ctx.map(|n| n as usize).or(setup.count("num_ctx").flatten());
        let context_length = context.unwrap_or_else(|| {
            let trained = model.hparams().context_length;
            let held = longest(&model, args, trained, cache_bytes);
            if held < trained {
                eprintln!(
                    "{}: a context of {held} tokens is what memory holds; the model was trained on {trained} (--ctx, --cache-memory)",
                    printable(id)
                );
            }
            held
        });
        let session = SessionOptions {
            context_length: Some(context_length),
            kv_type: args.run.kv_type,
            ..SessionOptions::default()
        };
        let speculation = self.speculation(id, &model)?;
        let (parallel, queue) = (args.parallel.into(), args.queue.into());
        let options = BatcherOptions { session, parallel, queue, cache_bytes, speculation };
        let batcher = Batcher::new(model, self.pool.clone(), options);
        let sampling = args.sampling.with_setup(setup);
        let sampler = sampling.options(batcher.model().metadata())?;
        let path = (reader.path() != Path::new(model_args::EMBEDDED)).then(|| reader.path().to_owned());
        let defaults = RequestDefaults {
            sampler,
            seed: sampling.seed(),
            max_tokens: args.max_tokens.map(|n| n as usize).or(setup.count("num_predict").flatten()),
            thinking: (args.think || args.no_think).then_some(args.think),
            embedding: EmbeddingOptions {
                pooling: args.pooling.map(PoolingArg::pooling),
                kv_type: args.run.kv_type,
                ..EmbeddingOptions::default()
            },
        };
        Ok(ServedModel::new(id.to_owned(), path, self.template.as_deref(), setup.clone(), defaults, batcher)?)
    }

    /// Settings of speculation for a model. The draft model may have another vocabulary than some of several models, and some may
    /// have no layer that drafts: these are served without.
    fn speculation(&self, id: &str, model: &Model) -> anyhow::Result<SpeculationOptions> {
        let args = &self.args;
        let several = args.on_demand || args.models.len() > 1;
        args.speculation.options(self.draft.as_ref(), model).or_else(|error| {
            if !several {
                return Err(error);
            }
            eprintln!("warning: {}: {error:#}; it is served without drafts of a model", printable(id));
            Ok(args.speculation.without_models())
        })
    }
}

/// Bytes of each model's caches, where they are given.
fn args_bytes(args: &Args) -> Option<u64> {
    args.cache_memory.map(|mib| u64::from(mib) << 20)
}

/// Bytes of each model's caches, of models that are loaded at the start.
fn cache_bytes(args: &Args) -> usize {
    const USUAL: u64 = 1 << 30;
    let models = args.models.len().max(1) as u64;
    let free = || gguf_toolkit::memory::available().map_or(USUAL, |bytes| bytes / 2 / models);
    usize::try_from(args_bytes(args).unwrap_or_else(free)).unwrap_or(usize::MAX)
}

/// The longest context of one request that `bytes` hold, of those that are halves of `wanted`.
fn longest(model: &Model, args: &Args, wanted: usize, bytes: usize) -> usize {
    let fits = |context_length: usize| {
        let options = SequenceOptions { kv_type: args.run.kv_type, context_length };
        model.decoder().sequence(options).bytes_at(context_length) <= bytes
    };
    let halves = std::iter::successors(Some(wanted.max(1)), |n| Some(n / 2).filter(|n| *n >= 512));
    halves.clone().find(|n| fits(*n)).or(halves.last()).unwrap_or(wanted)
}

fn describe(offer: &Offer) -> String {
    let (name, weights) = (printable(offer.id()), units::bytes(offer.weight_bytes()));
    let Some(model) = offer.model() else {
        return format!("{name}: {weights} of weights, loaded when it is asked for");
    };
    let batcher = model.batcher();
    if !batcher.model().decoder().has_logits() {
        let (length, context) = (batcher.model().decoder().embedding_length(), batcher.context_length());
        return format!("{name}: {weights} of weights, embeddings of {length} numbers, context {context}");
    }
    format!(
        "{name}: {weights} of weights, context {}, {} requests at once, up to {} of caches",
        batcher.context_length(),
        batcher.options().parallel,
        units::bytes(batcher.options().cache_bytes as u64),
    )
}

/// What is served, and two ways to try it.
fn welcome(addresses: &[SocketAddr], models: &[String], first: &str, no_page: bool, needs_key: bool) -> String {
    let address = addresses[0];
    // What is listened at everywhere is reached here as well.
    let here = match address.ip() {
        ip if !ip.is_unspecified() => SocketAddr::new(ip, address.port()),
        IpAddr::V4(_) => SocketAddr::new(std::net::Ipv4Addr::LOCALHOST.into(), address.port()),
        IpAddr::V6(_) => SocketAddr::new(std::net::Ipv6Addr::LOCALHOST.into(), address.port()),
    };
    let body = serde_json::json!({ "model": first, "messages": [{ "role": "user", "content": "Hello" }] });
    let key = if needs_key { " -H 'Authorization: Bearer KEY'" } else { "" };
    let body = body.to_string().replace('\'', "'\\''");
    let page = if no_page { String::new() } else { format!("  to chat in a browser: http://{here}\n") };
    let all: String = addresses.iter().map(|address| format!("serving at http://{address}\n")).collect();
    format!("{all}{}\n{page}  curl http://{here}/v1/chat/completions{key} -d '{body}'\n", models.join("\n"))
}

/// A log of requests: nothing of what they say.
fn log(wanted: bool) -> Option<Log> {
    wanted.then(|| -> Log {
        Box::new(|served| {
            let (path, ms) = (printable(served.path).limit(200), served.time.as_millis());
            eprintln!("{} {path} {} {ms} ms", served.method, served.status);
        })
    })
}
