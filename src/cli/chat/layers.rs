//! What a made model adds to its file (a template, a system prompt, settings ...), which holds where the command line says nothing
//! else.

use gguf_toolkit::modelfile::Setup;

use super::{Args, Limit};

impl Args {
    /// The same with what the setup of a model says.
    pub(super) fn with_setup(&self, setup: Setup) -> Self {
        let mut args = self.clone();
        if args.context.is_none() {
            args.context = setup.count("num_ctx").flatten();
        }
        if args.max_tokens.is_none() {
            // Negative numbers mean as many as fit.
            args.max_tokens = setup.count("num_predict").map(Limit);
        }
        if args.stop.is_empty() {
            args.stop = setup.stop();
        }
        args.sampling.recommend_all(&setup);
        args.run = args.run.with_adapters(&setup.adapters);
        args.system = args.system.or(setup.system);
        args.own_template = setup.template;
        args.first_messages = setup.messages;
        args
    }
}
