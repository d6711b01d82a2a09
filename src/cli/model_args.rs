//! What the commands that run a model share: which model, on how many threads, with which cache.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{IsTerminal as _, Write};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use clap::ValueEnum;
use clap::builder::PossibleValuesParser;
use gguf_toolkit::bytes::Bytes;
use gguf_toolkit::convert::{Conversion, Folder, Options, OutputType};
use gguf_toolkit::cpu::{CacheType, KvType};
use gguf_toolkit::engine::{Error as EngineError, SamplerOptions};
use gguf_toolkit::files;
use gguf_toolkit::gguf::{Metadata, Reader, Value};
use gguf_toolkit::kernels::{Isa, Pool};
use gguf_toolkit::model::{Adapter, Loading, Model};
use gguf_toolkit::modelfile::Setup;
use gguf_toolkit::network::Pooling;
use gguf_toolkit::printable::{printable, printable_path};
use gguf_toolkit::stores::{Error, Layers, Located, Places, Store};
use gguf_toolkit::tokenizer::Tokenizer;

/// Threads and cache.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct RunArgs {
    /// Threads (default: one for each core)
    #[arg(long, short = 'j', value_name = "N", allow_negative_numbers = true, value_parser = parse_threads)]
    threads: Option<NonZeroUsize>,
    /// Type of cached keys and values, or one of each: f32, f16, q8_0, q5_1, q4_0 or iq4_nl
    #[arg(long, value_name = "K[,V]", default_value = "f16", value_parser = parse_kv_type)]
    pub(crate) kv_type: KvType,
    /// Where weights are held: in the mapped file, or copied to memory
    #[arg(long, value_name = "MODE", default_value = "mmap", value_parser = parse_loading)]
    pub(crate) load: Loading,
    /// Change the model by an adapter (LoRA), SCALE (1) times as strong as it says; repeatable
    #[arg(long, value_name = "FILE[:SCALE]", value_parser = parse_lora)]
    lora: Vec<Lora>,
}

/// An adapter and how strong it is.
#[derive(Clone, Debug)]
struct Lora {
    path: PathBuf,
    scale: f32,
}

/// Most threads: more than the largest machines have cores.
const MOST_THREADS: usize = 1024;
/// Most tokens of a context: far above every model, far below any overflow.
const MOST_CONTEXT: usize = 1 << 27;

/// The length of a context or a batch.
pub(crate) fn parse_context(text: &str) -> Result<usize, String> {
    tokens(text, 1)
}

/// A number of tokens that may be none.
pub(crate) fn parse_length(text: &str) -> Result<usize, String> {
    tokens(text, 0)
}

fn tokens(text: &str, least: usize) -> Result<usize, String> {
    let within = text.trim().parse().ok().filter(|n| (least..=MOST_CONTEXT).contains(n));
    within.ok_or_else(|| format!("a number of tokens from {least} to {MOST_CONTEXT}"))
}

/// Checks a recommended setting (`general.sampling.*`) that goes into a file: a chat refuses one that is out of range.
///
/// # Errors
/// When it is out of range; all other keys are fine.
pub(crate) fn check_setting(key: &str, value: &Value) -> Result<(), EngineError> {
    let mut metadata = Metadata::new();
    metadata.set(key, value.clone());
    SamplerOptions::from_metadata(&metadata, &[]).map(drop)
}

pub(crate) fn parse_threads(text: &str) -> Result<NonZeroUsize, String> {
    let within = text.trim().parse().ok().filter(|n: &NonZeroUsize| n.get() <= MOST_THREADS);
    within.ok_or_else(|| format!("a number of threads from 1 to {MOST_THREADS}"))
}

fn parse_lora(text: &str) -> Result<Lora, String> {
    if Path::new(text).exists() {
        return Ok(Lora { path: text.into(), scale: 1.0 });
    }
    match text.rsplit_once(':').map(|(path, scale)| (path, scale.parse::<f32>())) {
        Some((path, Ok(scale))) if scale.is_finite() => Ok(Lora { path: path.into(), scale }),
        Some((_, Ok(_))) => Err("a scale is a finite number".into()),
        _ => Ok(Lora { path: text.into(), scale: 1.0 }),
    }
}

/// [`Pooling`], as options spell it.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum PoolingArg {
    /// The mean of all tokens
    Mean,
    /// The first token
    Cls,
    /// The last token
    Last,
    /// No pooling: a vector for each token
    None,
}

impl PoolingArg {
    pub(crate) fn pooling(self) -> Pooling {
        match self {
            Self::Mean => Pooling::Mean,
            Self::Cls => Pooling::Cls,
            Self::Last => Pooling::Last,
            Self::None => Pooling::None,
        }
    }
}

/// Its name, as options spell it.
pub(crate) fn pooling_name(pooling: Pooling) -> &'static str {
    match pooling {
        Pooling::None => "none",
        Pooling::Mean => "mean",
        Pooling::Cls => "cls",
        Pooling::Last => "last",
        Pooling::Rank => "rank",
    }
}

/// Types of cached keys and values by their names.
pub(crate) fn parse_kv_type(text: &str) -> Result<KvType, String> {
    let names = || CacheType::ALL.map(|ty| ty.to_string()).join(", ");
    KvType::parse(text).ok_or_else(|| format!("one of {}, or two of them (K,V)", names()))
}

fn parse_loading(text: &str) -> Result<Loading, String> {
    match text {
        "mmap" => Ok(Loading::Map),
        "load" => Ok(Loading::Copy),
        _ => Err("mmap or load".into()),
    }
}

impl RunArgs {
    /// The threads.
    ///
    /// # Errors
    /// When `GGUF_CPU` names an instruction set that there is not.
    pub(crate) fn pool(&self) -> anyhow::Result<Arc<Pool>> {
        self.share_of_threads(1)
    }

    /// The threads of one of so many models that run at the same time.
    ///
    /// # Errors
    /// As [`Self::pool`].
    pub(crate) fn share_of_threads(&self, models: usize) -> anyhow::Result<Arc<Pool>> {
        let threads = self.threads.map_or_else(default_threads, NonZeroUsize::get);
        Ok(Arc::new(Pool::with_isa((threads / models.max(1)).max(1), Isa::selected()?)))
    }

    /// Whether adapters are asked for.
    pub(crate) const fn has_adapters(&self) -> bool {
        !self.lora.is_empty()
    }

    /// The same with the adapters that a model was made with.
    pub(crate) fn with_adapters(&self, adapters: &[PathBuf]) -> Self {
        let of_model = adapters.iter().map(|path| Lora { path: path.clone(), scale: 1.0 });
        Self { lora: of_model.chain(self.lora.iter().cloned()).collect(), ..self.clone() }
    }

    /// The same without adapters: they change one model alone.
    pub(crate) fn without_adapters(&self) -> Self {
        Self { lora: Vec::new(), ..self.clone() }
    }

    /// The model of an opened file, with the adapters that are asked for.
    ///
    /// # Errors
    /// When it cannot be run, or an adapter cannot be read or is another model's.
    pub(crate) fn model(&self, reader: &Reader) -> anyhow::Result<Model> {
        let model = Model::from_reader_with(reader, self.load)?;
        self.lora.iter().try_fold(model, |model, lora| Ok(model.with_adapter(&Adapter::load(&lora.path)?, lora.scale)?))
    }
}

/// One thread for each core that this process may use.
pub(crate) fn default_threads() -> usize {
    std::thread::available_parallelism().map_or(1, NonZeroUsize::get)
}

/// The name under which the embedded model is shown.
pub(crate) const EMBEDDED: &str = "storyteller (embedded)";

/// The model that is meant by a path or a name.
pub(crate) fn locate(name: &Path) -> anyhow::Result<Located> {
    match name.to_str() {
        Some(name) => Places::from_environment().resolve(name).map_err(|error| match &error {
            Error::NotFound { .. } if could_be_fetched(name) => {
                anyhow::anyhow!("{error}; gguf pull {} may fetch it", printable(name).limit(200))
            }
            _ => error.into(),
        }),
        None => Ok(Located {
            name: String::new(),
            path: name.into(),
            store: Store::Path,
            layers: Layers::default(),
            manifest: None,
        }),
    }
}

/// Whether a name says on which server a model lies.
#[cfg(feature = "net")]
fn is_address(name: &str) -> bool {
    ["https://", "http://", "hf://"].iter().any(|scheme| name.starts_with(scheme))
}

/// Whether a name looks like one that servers know.
pub(crate) fn could_be_fetched(name: &str) -> bool {
    let is_file = name.to_lowercase().ends_with(".gguf") || name.contains(char::is_whitespace);
    cfg!(feature = "net") && name.contains(['/', ':']) && !is_file
}

/// Opens the model that is meant by a path or a name.
pub(crate) fn open(name: &Path) -> anyhow::Result<Reader> {
    Ok(Reader::open(&locate(name)?.path)?)
}

/// As [`open`], to look at: also models with tensors of types that are not known, and models that stay on their server.
pub(crate) fn open_any(name: &Path) -> anyhow::Result<Reader> {
    #[cfg(feature = "net")]
    if let Some(address) = name.to_str().filter(|name| is_address(name)) {
        if let Ok(located) = Places::from_environment().resolve(address) {
            return Ok(Reader::open_any(&located.path)?);
        }
        let settings = gguf_toolkit::net::Settings::from_environment(gguf_toolkit::net::ClientOptions::default())?;
        return Ok(gguf_toolkit::net::open_remote(&settings, address)?);
    }
    Ok(Reader::open_any(&locate(name)?.path)?)
}

/// The model that is meant by a path or a name, with the adapters that it was made with, or the embedded one.
pub(crate) fn load(path: Option<&Path>, run: &RunArgs) -> anyhow::Result<Arc<Model>> {
    let Some(path) = path else { return load_from(&embedded()?, run) };
    let located = locate(path)?;
    load_from(&Reader::open(&located.path)?, &run.with_adapters(&located.layers.adapters))
}

/// What a model was made with besides its file. What of it cannot be used is said.
pub(crate) fn setup(located: &Located, reader: &Reader) -> Setup {
    let setup = Setup::new(&located.layers, reader.metadata());
    if let Some(warning) = &setup.warning {
        eprintln!("warning: {}: {}", printable(&located.name), printable(warning));
    }
    setup
}

/// The model of an opened file; warnings about it are printed.
pub(crate) fn load_from(reader: &Reader, run: &RunArgs) -> anyhow::Result<Arc<Model>> {
    let model = run.model(reader)?;
    for warning in model.warnings() {
        eprintln!("warning: {}: {warning}", printable_path(reader.path()));
    }
    Ok(Arc::new(model))
}

/// The embedded checkpoint, converted to F16 in memory.
#[cfg(feature = "embedded")]
pub(crate) fn embedded() -> anyhow::Result<Reader> {
    let options = Options { output_type: OutputType::F16, ..Options::default() };
    let conversion = Conversion::new(gguf_toolkit::embedded::storyteller(), &options)?;
    let bytes = gguf_toolkit::quantize::run_in_memory(&conversion, &conversion.plan(&[])?)?;
    Ok(Reader::from_bytes(EMBEDDED, Bytes::from(bytes))?)
}

/// There is none in this build.
#[cfg(not(feature = "embedded"))]
pub(crate) fn embedded() -> anyhow::Result<Reader> {
    anyhow::bail!("no model given, and none is embedded in this build")
}

/// The tokenizer of a GGUF file, of a checkpoint's folder, or of the embedded model. `pre` names the pre-tokenizer of a
/// folder's where it is not recognized.
pub(crate) fn tokenizer(path: Option<&Path>, pre: Option<&str>) -> anyhow::Result<Tokenizer> {
    let reader = match path {
        Some(path) if is_checkpoint(path) => return Ok(gguf_toolkit::convert::tokenizer(&Folder::open(path)?, pre)?),
        _ if pre.is_some() => anyhow::bail!("--pre is for a checkpoint's folder: a GGUF file names its pre-tokenizer"),
        Some(path) => open(path)?,
        None => embedded()?,
    };
    Tokenizer::from_gguf(&reader).with_context(|| short_name(path.map(Path::to_owned).as_ref()))
}

/// A parser of pre-tokenizers' names.
pub(crate) fn pre_tokenizers() -> PossibleValuesParser {
    PossibleValuesParser::new(gguf_toolkit::tokenizer::pre_tokenizer_names())
}

/// Whether a folder is a checkpoint, not one that holds GGUF files alone.
pub(crate) fn is_checkpoint(path: &Path) -> bool {
    let has = |name: &str| path.join(name).exists();
    path.is_dir() && (has("config.json") || has("tokenizer.json") || has("tokenizer.model") || has("vocab.json"))
}

/// Whether an argument that may be a model or a text is a model: a path, or a name of a store that could be no word.
pub(crate) fn is_model(argument: &str) -> bool {
    let like_a_name = || argument.contains([':', '/']) && !argument.contains(char::is_whitespace);
    Path::new(argument).exists()
        || argument.to_lowercase().ends_with(".gguf")
        || like_a_name() && Places::from_environment().resolve(argument).is_ok()
}

/// Whether an argument that may be a model or a message is a model: a file, a folder with one, or a name that `gguf list` shows.
/// What ends in `.gguf` is meant as a file, whether it is there or not.
pub(crate) fn names_model(argument: &OsStr) -> bool {
    let path = Path::new(argument);
    let Some(text) = argument.to_str() else { return true };
    let is_word = !text.is_empty() && !text.contains(char::is_whitespace);
    if path.is_file() || is_word && text.to_lowercase().ends_with(".gguf") {
        return true;
    }
    let may_be_listed = is_word && !text.starts_with('.') && !path.has_root();
    (path.is_dir() || may_be_listed) && Places::from_environment().resolve(text).is_ok()
}

/// A text file, `-` for standard input.
pub(crate) fn read_text(path: &Path) -> anyhow::Result<String> {
    let bytes = if path == Path::new("-") {
        if std::io::stdin().is_terminal() {
            eprintln!("(type a text; Ctrl-D at the beginning of a line ends it)");
        }
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut std::io::stdin().lock(), &mut bytes).context("standard input")?;
        bytes
    } else {
        read_any(path).with_context(|| printable_path(path).to_string())?
    };
    String::from_utf8(bytes).map_err(|e| {
        let at = e.utf8_error().valid_up_to();
        let name = if path == Path::new("-") { Path::new("standard input") } else { path };
        anyhow::anyhow!("{}: byte {at} is no UTF-8", printable_path(name))
    })
}

/// All bytes of a file, which may also be a pipe (`<(...)` of a shell).
fn read_any(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    files::note_opened(&file)?;
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(&mut file, &mut bytes)?;
    Ok(bytes)
}

/// A model's file name without folder and extension, safe to show.
pub(crate) fn short_name(path: Option<&PathBuf>) -> String {
    let Some(path) = path else { return EMBEDDED.to_owned() };
    let name = printable_path(Path::new(path.file_name().unwrap_or(path.as_os_str()))).to_string();
    name.strip_suffix(".gguf").map_or(name.clone(), str::to_owned)
}

/// Writes to standard output, and lets a closed pipe end the program quietly.
pub(crate) fn print(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}
