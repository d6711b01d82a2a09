//! Options that `gguf quantize` and `gguf convert` share.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use gguf::TensorType;
use gguf::gguf::Value;
use gguf::imatrix::ImportanceMatrix;
use gguf::quantize::{FileType, Importance, Options, RunOptions, TensorPattern, parse_override};

fn tensor_type(text: &str) -> Result<TensorType, String> {
    TensorType::from_name(text).ok_or_else(|| "a tensor type such as Q6_K, Q8_0 or F16".into())
}

/// Which tensor gets which type, and what the metadata say.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Types")]
pub(crate) struct TypeArgs {
    /// Give all tensors the type's default, without more bits for those that matter
    #[arg(long)]
    pure: bool,
    /// Leave the output matrix (output.weight) as it is
    #[arg(long)]
    leave_output_tensor: bool,
    /// Type of the output matrix
    #[arg(long, value_name = "TYPE", value_parser = tensor_type)]
    output_tensor_type: Option<TensorType>,
    /// Type of the token embedding
    #[arg(long, value_name = "TYPE", value_parser = tensor_type)]
    token_embedding_type: Option<TensorType>,
    /// Type of the tensors whose names match (in lower case); the first match counts; repeatable
    #[arg(long, value_name = "REGEX=TYPE", value_parser = TensorPattern::parse)]
    tensor_type: Vec<TensorPattern>,
    /// File of such patterns, separated by spaces or lines; they come after those of --tensor-type
    #[arg(long, value_name = "FILE")]
    tensor_type_file: Vec<PathBuf>,
    /// Fail where rows do not fill blocks, in place of taking another type
    #[arg(long)]
    no_fallback: bool,
    /// Leave out these blocks, counted from 0
    #[arg(long, value_name = "L0,L1", value_delimiter = ',')]
    prune_layers: Vec<usize>,
    /// Weigh errors by this importance matrix (`gguf imatrix` makes one)
    #[arg(long, value_name = "FILE")]
    imatrix: Option<PathBuf>,
    /// Weigh those of the tensors alone whose names contain this; repeatable
    #[arg(long, value_name = "NAME", requires = "imatrix", conflicts_with = "exclude_weights")]
    include_weights: Vec<String>,
    /// Do not weigh those of the tensors whose names contain this; repeatable
    #[arg(long, value_name = "NAME", requires = "imatrix")]
    exclude_weights: Vec<String>,
    /// Set a key of the metadata: KEY=int:1, float:0.5, bool:true or str:text; repeatable
    #[arg(long, value_name = "KEY=TYPE:VALUE", value_parser = parse_override)]
    override_kv: Vec<(String, Value)>,
}

impl TypeArgs {
    /// The library's options.
    ///
    /// # Errors
    /// When a file of patterns or the importance matrix is not valid.
    pub(crate) fn options(&self, file_type: FileType) -> anyhow::Result<Options> {
        let mut tensor_types = self.tensor_type.clone();
        for path in &self.tensor_type_file {
            tensor_types.extend(TensorPattern::parse_file(path)?);
        }
        let importance = self.imatrix.as_deref().map(|path| {
            let matrix = ImportanceMatrix::open(path)?;
            let name = path.to_string_lossy();
            let importance = Importance::new(&name, &matrix, &self.include_weights, &self.exclude_weights)?;
            anyhow::Ok(Arc::new(importance))
        });
        Ok(Options {
            importance: importance.transpose()?,
            pure: self.pure,
            leave_output_tensor: self.leave_output_tensor,
            output_tensor_type: self.output_tensor_type,
            token_embedding_type: self.token_embedding_type,
            tensor_types,
            no_fallback: self.no_fallback,
            override_kv: self.override_kv.clone(),
            prune_blocks: self.prune_layers.clone(),
            ..Options::new(file_type)
        })
    }

    /// The first option that means something for quantizing alone.
    pub(crate) fn for_quantizing(&self) -> Option<&'static str> {
        let given = [
            (self.pure, "--pure"),
            (self.leave_output_tensor, "--leave-output-tensor"),
            (self.output_tensor_type.is_some(), "--output-tensor-type"),
            (self.token_embedding_type.is_some(), "--token-embedding-type"),
            (!self.tensor_type.is_empty(), "--tensor-type"),
            (!self.tensor_type_file.is_empty(), "--tensor-type-file"),
            (self.no_fallback, "--no-fallback"),
            (!self.prune_layers.is_empty(), "--prune-layers"),
            (self.imatrix.is_some(), "--imatrix"),
        ];
        given.iter().find(|(given, _)| *given).map(|(_, name)| *name)
    }

    /// Keys to set.
    pub(crate) fn override_kv(&self) -> &[(String, Value)] {
        &self.override_kv
    }
}

/// What is written, and what is told.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct WriteArgs {
    /// File to write (default: the model's name with the type, in this folder)
    #[arg(long, short, alias = "outfile", value_name = "FILE")]
    output: Option<PathBuf>,
    /// Replace an existing output
    #[arg(long, short)]
    force: bool,
    /// Show the plan and the exact size of the file; read no weight and write nothing
    #[arg(long, short = 'n')]
    pub(crate) dry_run: bool,
    /// Measure what it costs: hold what is written against what was read, tensor by tensor (needs a real run)
    #[arg(long, conflicts_with = "dry_run")]
    pub(crate) stats: bool,
    /// Print plan and measures as JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// Do not read back what was written
    #[arg(long)]
    no_verify: bool,
    /// Threads (default: one for each core)
    #[arg(long, short = 'j', value_name = "N")]
    threads: Option<NonZeroUsize>,
}

impl WriteArgs {
    /// The output, or what it is called by default.
    pub(crate) fn output(&self, default: impl FnOnce() -> PathBuf) -> PathBuf {
        self.output.as_deref().map_or_else(default, Path::to_owned)
    }

    /// Sets the threads where `threads` says so.
    pub(crate) fn set_threads(&mut self, threads: Option<NonZeroUsize>) {
        self.threads = threads.or(self.threads);
    }

    /// Whether an output is named.
    pub(crate) fn has_output(&self) -> bool {
        self.output.is_some()
    }

    /// The library's options.
    pub(crate) fn run_options(&self) -> RunOptions {
        RunOptions {
            force: self.force,
            threads: self.threads.map_or(0, NonZeroUsize::get),
            verify: !self.no_verify,
            stats: self.stats,
        }
    }
}
