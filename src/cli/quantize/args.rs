//! Options that `gguf quantize` and `gguf convert` share.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use gguf_toolkit::TensorType;
use gguf_toolkit::gguf::Value;
use gguf_toolkit::imatrix::ImportanceMatrix;
use gguf_toolkit::printable::{printable, printable_path};
use gguf_toolkit::quantize::{
    self, FileType, Importance, Like, Options, Plan, Recipe, RunOptions, Source, TensorPattern,
};

use crate::model_args;
use crate::table::{Column, Table};

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
    /// Give each tensor the type that it has in this model (file, any shard, folder or name); --type, or else that
    /// model's own mix, is for what it lacks
    #[arg(long, value_name = "OTHER", conflicts_with_all = ["pure", "recipe"])]
    like: Option<PathBuf>,
    /// Give types by a recipe: a file, or the name of a shipped one (--list-recipes); --type replaces its base
    #[arg(long, value_name = "FILE|NAME", conflicts_with = "pure")]
    recipe: Option<PathBuf>,
    /// Show the shipped recipes
    #[arg(long)]
    pub(crate) list_recipes: bool,
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
    #[arg(long, value_name = "KEY=TYPE:VALUE", value_parser = override_of)]
    override_kv: Vec<(String, Value)>,
}

fn override_of(text: &str) -> Result<(String, Value), String> {
    let (key, value) = quantize::parse_override(text).map_err(|error| error.to_string())?;
    model_args::check_setting(&key, &value).map_err(|error| error.to_string())?;
    Ok((key, value))
}

impl TypeArgs {
    /// Whether types are taken from a model or a recipe, so that no mix need be named.
    pub(crate) fn report_types(&self) -> bool {
        self.like.is_some() || self.recipe.is_some()
    }

    /// The library's options. `file_type` may be `None` where [`report_types`](Self::report_types) says so.
    ///
    /// # Errors
    /// When a file of patterns, a recipe, the other model or the importance matrix is not valid, or no mix is known.
    pub(crate) fn options(&self, file_type: Option<FileType>) -> anyhow::Result<Options> {
        let recipe = self.recipe.as_deref().map(open_recipe).transpose()?.map(Arc::new);
        let like = self.like.as_deref().map(|path| anyhow::Ok(Arc::new(Like::new(&model_args::open(path)?))));
        let like = like.transpose()?;
        let own = recipe.as_ref().map(|recipe| recipe.base()).or_else(|| like.as_ref()?.file_type());
        let file_type = file_type.or(own).with_context(|| match &self.like {
            Some(path) => {
                format!("{}: does not say which mix it has: -t TYPE names one for what it lacks", printable_path(path))
            }
            None => "no type: -t Q4_K_M is the usual choice (--list-types shows all)".into(),
        })?;
        let mut tensor_types = self.tensor_type.clone();
        for path in &self.tensor_type_file {
            tensor_types.extend(TensorPattern::parse_file(path)?);
        }
        let importance =
            self.imatrix.as_deref().map(|path| open_importance(path, &self.include_weights, &self.exclude_weights));
        Ok(Options {
            importance: importance.transpose()?,
            pure: self.pure || recipe.as_ref().is_some_and(|recipe| recipe.is_pure()),
            leave_output_tensor: self.leave_output_tensor,
            output_tensor_type: self.output_tensor_type,
            token_embedding_type: self.token_embedding_type,
            tensor_types,
            like,
            recipe,
            no_fallback: self.no_fallback,
            override_kv: self.override_kv.clone(),
            prune_layers: self.prune_layers.clone(),
            ..Options::new(file_type)
        })
    }

    /// Says what of the other model or the recipe is not used, and what they say nothing of.
    ///
    /// # Errors
    /// When the other model has none of the tensors.
    pub(crate) fn report_unused(&self, source: &dyn Source, options: &Options, plan: &Plan) -> anyhow::Result<()> {
        if let (Some(like), Some(path)) = (&options.like, &self.like) {
            let other = printable_path(path);
            let lacks = |name: &&str| like.ty(name).is_none();
            let lacking: Vec<&str> =
                plan.tensors.iter().map(|tensor| tensor.spec.name.as_str()).filter(lacks).collect();
            anyhow::ensure!(lacking.len() < plan.tensors.len(), "{other}: has none of the model's tensors");
            if !lacking.is_empty() {
                let shown: Vec<String> = lacking.iter().take(8).map(|name| printable(name).to_string()).collect();
                let more = if lacking.len() > 8 { " ..." } else { "" };
                let (count, shown, mix) = (lacking.len(), shown.join(", "), options.file_type);
                eprintln!("{other} lacks {count} tensors, which get their types by the mix {mix}: {shown}{more}");
            }
        }
        if let Some(recipe) = &options.recipe {
            for line in recipe.unused(source) {
                eprintln!("recipe {}: the model has none of the tensors of line {line}", printable(recipe.name()));
            }
        }
        Ok(())
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

/// The weights of errors in the file of an importance matrix: of the tensors alone whose names contain one of `include`, and
/// none of `exclude`.
pub(crate) fn open_importance(path: &Path, include: &[String], exclude: &[String]) -> anyhow::Result<Arc<Importance>> {
    let matrix = ImportanceMatrix::open(path)?;
    Ok(Arc::new(Importance::new(&path.to_string_lossy(), &matrix, include, exclude)?))
}

/// The recipe in a file, or the shipped one with this name.
fn open_recipe(path: &Path) -> anyhow::Result<Recipe> {
    let shipped = || Recipe::named(path.to_str()?);
    if !path.exists() {
        return shipped().with_context(|| {
            let names: Vec<String> = Recipe::shipped().iter().map(|recipe| recipe.name().to_owned()).collect();
            format!("{}: no such file, and no shipped recipe ({})", printable_path(path), names.join(", "))
        });
    }
    Ok(Recipe::open(path)?)
}

/// What an output is called after: the recipe, or the mix.
pub(crate) fn mix_name(options: &Options) -> String {
    match &options.recipe {
        Some(recipe) if recipe.base() == options.file_type => recipe.name().to_owned(),
        Some(recipe) => format!("{}-{}", options.file_type, recipe.name()),
        None => options.file_type.name().to_owned(),
    }
}

/// Shows the shipped recipes.
pub(crate) fn list_recipes() -> anyhow::Result<()> {
    let mut table = Table::new([Column::left("recipe"), Column::left("base"), Column::texts("what it is")]);
    for recipe in Recipe::shipped() {
        table.row([recipe.name().to_owned(), recipe.base().to_string(), recipe.about().to_owned()]);
    }
    table.write(&mut std::io::stdout().lock())?;
    Ok(())
}

/// What is written, and what is reported.
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
    #[arg(long, short = 'j', value_name = "N", allow_negative_numbers = true, value_parser = model_args::parse_threads)]
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
            ..RunOptions::default()
        }
    }
}
