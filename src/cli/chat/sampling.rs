//! The options that choose tokens: one for each row of the library's table of settings.

use std::time::{SystemTime, UNIX_EPOCH};

use clap::{Arg, ArgAction, ArgMatches, Command, FromArgMatches};
use gguf_toolkit::engine::{SETTINGS, SamplerOptions, Setting};
use gguf_toolkit::gguf::Metadata;
use gguf_toolkit::modelfile::Setup;

/// How tokens are chosen. What is not given is what the model recommends, or else the usual.
#[derive(Clone, Debug, Default)]
pub(crate) struct SamplingArgs {
    numbers: Vec<(&'static str, f64)>,
    samplers: Option<Vec<String>>,
    breakers: Option<Vec<String>>,
    bias: Vec<(u32, f32)>,
    seed: Option<u64>,
}

const HEADING: &str = "Sampling";

impl clap::Args for SamplingArgs {
    fn augment_args(mut command: Command) -> Command {
        let usual = SamplerOptions::default();
        for setting in SETTINGS {
            let mut arg = Arg::new(setting.name)
                .long(setting.name)
                .help(format!("{} [usual: {}]", setting.about, setting.text(&usual)))
                .value_name(if setting.range().contains("whole") { "N" } else { "X" })
                .allow_negative_numbers(true)
                .help_heading(HEADING)
                .action(ArgAction::Set);
            arg = arg.value_parser(move |text: &str| setting.parse(text).map_err(|_| advice(setting)));
            arg = setting.aliases.iter().fold(arg, |arg, alias| arg.alias(*alias));
            if setting.name == "temperature" {
                arg = arg.short('t');
            }
            command = command.arg(arg);
        }
        let other = |name: &'static str| Arg::new(name).long(name).help_heading(HEADING);
        command
            .arg(
                other("samplers")
                    .value_name("NAMES")
                    .help(format!("Samplers in their order [usual: {}]", usual.samplers.join(";")))
                    .value_parser(|names: &str| {
                        SamplerOptions::parse_samplers(names).map(Chain).map_err(|e| e.to_string())
                    }),
            )
            .arg(
                other("dry-sequence-breaker")
                    .value_name("TEXT")
                    .help("Text that ends a repetition for DRY; several times for several, `none` for none")
                    .action(ArgAction::Append),
            )
            .arg(
                other("logit-bias")
                    .value_name("ID+X")
                    .help("Makes a token likelier (15043+1) or less likely (15043-1)")
                    .value_parser(bias)
                    .action(ArgAction::Append),
            )
            .arg(
                other("seed")
                    .value_name("N")
                    .help("The same seed gives the same text; -1 for another one each time")
                    .value_parser(seed)
                    .allow_negative_numbers(true),
            )
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

/// Names of samplers.
#[derive(Clone, Debug)]
struct Chain(Vec<String>);

/// What to say about a number that is none, or out of range.
fn advice(setting: &Setting) -> String {
    let threads = if setting.name == "temperature" { " (threads are -j)" } else { "" };
    format!("{}{threads}", setting.range())
}

fn bias(text: &str) -> Result<(u32, f32), String> {
    let at = text.find(['+', '-']).filter(|at| *at > 0);
    let parsed = at.and_then(|at| Some((text[..at].parse().ok()?, text[at..].parse().ok()?)));
    parsed
        .filter(|(_, bias): &(u32, f32)| !bias.is_nan())
        .ok_or_else(|| "a token's id, then + or - and a number".into())
}

/// A seed; `None` for a random one.
pub(super) fn seed(text: &str) -> Result<Option<u64>, String> {
    if text == "-1" {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|_| "a whole number from 0, or -1 for a random one".to_owned())
}

/// A seed that nobody has chosen.
pub(super) fn random_seed() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |now| u64::from(now.subsec_nanos()) ^ now.as_secs())
}

impl FromArgMatches for SamplingArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut args = Self::default();
        args.update_from_arg_matches(matches)?;
        Ok(args)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        let number = |setting: &Setting| Some((setting.name, *matches.get_one::<f64>(setting.name)?));
        self.numbers = SETTINGS.iter().filter_map(number).collect();
        self.samplers = matches.get_one::<Chain>("samplers").map(|chain| chain.0.clone());
        self.breakers = matches.get_many::<String>("dry-sequence-breaker").map(|texts| texts.cloned().collect());
        self.bias = matches.get_many::<(u32, f32)>("logit-bias").into_iter().flatten().copied().collect();
        self.seed = matches.get_one::<Option<u64>>("seed").copied().flatten();
        Ok(())
    }
}

impl SamplingArgs {
    /// The seed, where one was given.
    #[cfg(feature = "serve")]
    pub(crate) fn seed(&self) -> Option<u64> {
        self.seed
    }

    /// The same with the settings of a made model where none were given.
    #[cfg(feature = "serve")]
    pub(crate) fn with_setup(&self, setup: &Setup) -> Self {
        let mut args = self.clone();
        args.recommend_all(setup);
        args
    }

    /// Takes the settings of a made model where none were given; those that mean nothing here are left.
    pub(super) fn recommend_all(&mut self, setup: &Setup) {
        setup.numbers().for_each(|(name, value)| self.recommend(name, value));
        // A negative seed means another one each time.
        self.seed = self.seed.or_else(|| setup.count("seed").flatten().and_then(|seed| u64::try_from(seed).ok()));
    }

    fn recommend(&mut self, name: &str, value: f64) {
        let Some(setting) = Setting::named(name) else { return };
        let is_sound = setting.set(&mut SamplerOptions::default(), value).is_ok();
        if is_sound && self.numbers.iter().all(|(given, _)| *given != setting.name) {
            self.numbers.push((setting.name, value));
        }
    }

    /// What was given, what the file recommends, and the usual.
    ///
    /// # Errors
    /// When the file recommends what is out of range.
    pub(crate) fn options(&self, metadata: &Metadata) -> anyhow::Result<SamplerOptions> {
        let mut chosen: Vec<&str> = self.numbers.iter().map(|(name, _)| *name).collect();
        chosen.extend(self.samplers.is_some().then_some("samplers"));
        let mut options = SamplerOptions::from_metadata(metadata, &chosen)?;
        for (name, value) in &self.numbers {
            if let Some(setting) = Setting::named(name) {
                setting.set(&mut options, *value)?;
            }
        }
        if let Some(samplers) = &self.samplers {
            options.samplers.clone_from(samplers);
        }
        if let Some(breakers) = &self.breakers {
            options.dry_sequence_breakers = breakers.iter().filter(|text| *text != "none").cloned().collect();
        }
        options.logit_bias.clone_from(&self.bias);
        options.seed = self.seed.unwrap_or_else(random_seed);
        Ok(options)
    }
}
