//! The report as one page of HTML that needs nothing else: no network, no script.

use std::fmt::Write as _;

use gguf_toolkit::compare::{Passage, Score, TensorError, Verdict, worst_passages};
use gguf_toolkit::printable::printable;
use gguf_toolkit::tokenizer::{StreamDecoder, Tokenizer};

use super::charts::{self, label, ranks};
use super::report::{Entry, Report, rate, verdict};
use super::theme::{self, hex, series};
use crate::units;

/// Widths of the two pictures of each kind, in pixels: on wide screens, and on narrow ones.
const WIDE: u32 = 1000;
const NARROW: u32 = 430;
/// Tokens of a passage that is shown, and how many of a model.
const PASSAGE_TOKENS: usize = 40;
const PASSAGES: usize = 3;
/// Tokens before a passage, for the sake of reading.
const TOKENS_BEFORE: usize = 16;
/// Divergence of the strongest colour, in nats.
const FULL_COLOUR: f64 = 2.0;

/// The page. `errors` are those of the tensors of each model.
///
/// # Errors
/// When a picture cannot be drawn.
pub(super) fn page(report: &Report, tokenizer: &Tokenizer, errors: &[Vec<TensorError>]) -> anyhow::Result<String> {
    let title = format!("What quantizing {} costs", escaped(&report.base.name));
    let mut html = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n<title>{title}</title>\n\
         <style>\n{}{}</style>\n</head>\n<body>\n<main>\n<h1>{title}</h1>\n",
        include_str!("page.css"),
        theme::style()
    );
    let outcome = &report.outcome;
    let _ = writeln!(
        html,
        "<p class=\"muted\">Measured on {}: {} chunks of {} tokens, {} positions. The base has a perplexity of {:.4}.</p>",
        escaped(&report.text),
        outcome.tokens.len() / outcome.context,
        outcome.context,
        outcome.base.len(),
        report.base_perplexity().value
    );
    html.push_str("<ul>\n");
    for line in report.advice() {
        let _ = writeln!(html, "<li>{}</li>", escaped(&line));
    }
    html.push_str("</ul>\n");
    html.push_str(&table(report));
    html.push_str(
        "<h2>Size and quality</h2>\n<p class=\"muted\">Further down is nearer to the base, further left is smaller. Models on the \
         line are worth their size: no other is at most as large and loses less.</p>\n",
    );
    html.push_str(&figure("Size of each file against its mean divergence", |w| charts::front(report, w, height(w)))?);
    html.push_str(
        "<h2>Along the context</h2>\n<p class=\"muted\">The mean divergence at each position of a chunk. A line that rises says \
         that errors add up in long texts.</p>\n",
    );
    html.push_str(&figure("Divergence by position", |w| charts::by_position(report, w, height(w)))?);
    html.push_str(
        "<h2>How probabilities change</h2>\n<p class=\"muted\">By how much the token that really follows is likelier than for the \
         base. A share to the left is what is lost, and a narrow curve is a model like its base.</p>\n",
    );
    html.push_str(&figure("Changes of probabilities", |w| charts::changes(report, w, height(w)))?);
    html.push_str(&passages(report, tokenizer));
    html.push_str(&heat_maps(report, errors)?);
    html.push_str(DEFINITIONS);
    html.push_str("</main>\n</body>\n</html>\n");
    Ok(html)
}

const DEFINITIONS: &str = "<h2>What the figures mean</h2>\n<p>The divergence (Kullback-Leibler, in nats) of a position is how far the \
    model's probabilities of the next token are from the base's; 0 is the same. “Same top” is how often both have the same likeliest token, \
    “Δp” how the probability of the token that really follows changes. The definitions are llama-perplexity's.</p>\n<p>Verdicts: no visible loss \
    below a mean divergence of 0.01 and 1 % of perplexity; small below 0.06 and 5 %; clear below 0.5 and 49 %; broken from there on.</p>\n";

fn height(width: u32) -> u32 {
    if width == WIDE { 420 } else { 330 }
}

/// A picture in both widths.
fn figure(name: &str, draw: impl Fn(u32) -> anyhow::Result<String>) -> anyhow::Result<String> {
    let mut html = String::from("<figure>\n");
    for (class, width) in [("wide", WIDE), ("narrow", NARROW)] {
        let svg = draw(width)?;
        // Screen readers get a name, and the picture shrinks with its surroundings.
        let svg =
            svg.replacen("<svg ", &format!("<svg class=\"{class}\" role=\"img\" aria-label=\"{}\" ", escaped(name)), 1);
        html.push_str(&svg);
    }
    html.push_str("</figure>\n");
    Ok(html)
}

fn table(report: &Report) -> String {
    let mut html = String::from(
        "<div class=\"scroll\"><table>\n<tr><th>model</th><th class=\"verdict\">verdict</th><th>size</th><th>bits/weight</th>\
         <th>perplexity</th><th>change</th><th>mean KL</th><th>median</th><th>99 %</th><th>99.9 %</th><th>max</th><th>Δp mean</th><th>Δp RMS</th>\
         <th>same top</th><th>prompt t/s</th><th>answer t/s</th><th>memory</th></tr>\n",
    );
    let size = |entry: &Entry| format!("<td>{}</td><td>{:.2}</td>", units::bytes(entry.bytes), entry.bits_per_weight);
    let _ = writeln!(
        html,
        "<tr><td>{}</td><td class=\"verdict\">the base</td>{}<td>{:.4}</td>{}<td>{}</td><td>{}</td><td>{}</td></tr>",
        escaped(&report.base.name),
        size(&report.base),
        report.base_perplexity().value,
        "<td>–</td>".repeat(9),
        rate(report.outcome.base_prompt.rate()),
        rate(report.base.answer_rate),
        units::bytes(report.base.memory_bytes)
    );
    let ranks = ranks(report);
    for ((entry, measured, efficient), &rank) in report.models().zip(&ranks) {
        let s = &measured.statistics;
        let tone = series(rank, ranks.len());
        let _ = writeln!(
            html,
            "<tr{}><td><i class=\"mark\" style=\"--tone:{};--dark:{}\"></i>{}</td><td class=\"verdict\">{}</td>{}\
             <td>{:.4} ± {:.4}</td><td>{:+.2} %</td><td>{:.5} ± {:.5}</td><td>{:.5}</td><td>{:.4}</td><td>{:.3}</td><td>{:.3}</td>\
             <td>{:+.3} %</td><td>{:.2} %</td><td>{:.2} %</td><td>{}</td><td>{}</td><td>{}</td></tr>",
            if efficient { " class=\"best\"" } else { "" },
            hex(tone.light),
            hex(tone.dark),
            escaped(&entry.name),
            verdict(measured),
            size(entry),
            s.perplexity.value,
            s.perplexity.error,
            (s.ratio.value - 1.0) * 100.0,
            s.kl.value,
            s.kl.error,
            s.kl_quantiles.at(0.5),
            s.kl_quantiles.at(0.99),
            s.kl_quantiles.at(0.999),
            s.kl_quantiles.at(1.0),
            s.p_change.value * 100.0,
            s.p_rms.value * 100.0,
            s.same_top.value * 100.0,
            rate(measured.prompt.rate()),
            rate(entry.answer_rate),
            units::bytes(entry.memory_bytes)
        );
    }
    html.push_str("</table></div>\n");
    html
}

/// The model whose details are open at first: the smallest without more than a small loss, else the least lossy.
fn shown_first(report: &Report) -> usize {
    let good = |verdict: Option<Verdict>| matches!(verdict, Some(Verdict::Invisible | Verdict::Small));
    let models = report.models().enumerate();
    let smallest = models
        .filter(|(_, (_, measured, _))| good(Verdict::of(&measured.statistics)))
        .min_by_key(|(_, (entry, ..))| entry.bytes);
    let least = || ranks(report).iter().position(|&rank| rank == 0).unwrap_or(0);
    smallest.map_or_else(least, |(model, _)| model)
}

fn passages(report: &Report, tokenizer: &Tokenizer) -> String {
    let mut html = String::from(
        "<h2>The worst passages</h2>\n<p class=\"muted\">Where each model is furthest from the base: the stronger the colour of a token, \
         the greater the divergence where it is predicted. Hovering shows the figures.</p>\n",
    );
    let first = shown_first(report);
    for (model, (entry, measured, _)) in report.models().enumerate() {
        let open = if model == first { " open" } else { "" };
        let _ = writeln!(html, "<details{open}><summary>{}</summary>", escaped(label(entry)));
        for passage in worst_passages(&measured.scores, report.outcome.per_chunk(), PASSAGE_TOKENS, PASSAGES) {
            let _ =
                writeln!(html, "<p class=\"muted\">Chunk {}, mean divergence {:.4}</p>", passage.chunk + 1, passage.kl);
            html.push_str(&quoted_passage(report, &measured.scores, tokenizer, &passage));
        }
        html.push_str("</details>\n");
    }
    html
}

/// A passage in its text, with what stands before it.
fn quoted_passage(report: &Report, scores: &[Score], tokenizer: &Tokenizer, passage: &Passage) -> String {
    let outcome = &report.outcome;
    let first = outcome.target(passage.positions.start);
    let chunk = passage.chunk * outcome.context;
    // A character of several tokens is progress_bar with the last of them.
    let mut decoder = StreamDecoder::new(true);
    let mut text = |token: u32| escaped(&decoder.push(tokenizer, token));
    let before: String = outcome.tokens[first.saturating_sub(TOKENS_BEFORE).max(chunk)..first]
        .iter()
        .map(|&token| text(token))
        .collect();
    let mut html = format!("<blockquote><span class=\"before\">… {before}</span>");
    for position in passage.positions.clone() {
        let (base, score) = (&outcome.base[position], &scores[position]);
        let piece = |token: u32| escaped(&format!("{:?}", String::from_utf8_lossy(tokenizer.piece(token))));
        let strength = (f64::from(score.kl) / FULL_COLOUR).clamp(0.0, 1.0).sqrt() * 0.75;
        let _ = write!(
            html,
            "<span style=\"--k:{strength:.2}\" title=\"divergence {:.4}; probability {:.1} % (base {:.1} %); likeliest {} (base {})\">{}</span>",
            score.kl,
            (-score.nll).exp() * 100.0,
            (-base.nll).exp() * 100.0,
            piece(score.top),
            piece(base.top),
            text(outcome.tokens[outcome.target(position)])
        );
    }
    html.push_str(" …</blockquote>\n");
    html
}

fn heat_maps(report: &Report, errors: &[Vec<TensorError>]) -> anyhow::Result<String> {
    let greatest = errors.iter().flatten().map(|error| error.relative_rmse).fold(0.0, f64::max);
    let mut html = format!(
        "<h2>Errors of the tensors</h2>\n<p class=\"muted\">How far the weights of each tensor are from the base's: the root of the mean \
         squared error as a share of their own size, by layer (across) and part (down). The strongest colour is {:.1} %, in all models.</p>\n",
        greatest * 100.0
    );
    let first = shown_first(report);
    for (model, (entry, errors)) in report.entries.iter().zip(errors).enumerate() {
        let open = if model == first { " open" } else { "" };
        let _ = writeln!(html, "<details{open}><summary>{}</summary>", escaped(label(entry)));
        if errors.is_empty() {
            html.push_str("<p>No tensor differs from the base's.</p>\n");
        } else {
            html.push_str(&figure("Error of each tensor", |w| charts::heat_map(errors, greatest, w))?);
        }
        let outside: Vec<String> = errors
            .iter()
            .filter(|error| error.layer.is_none())
            .map(|error| format!("{} {:.2} %", escaped(&error.part), error.relative_rmse * 100.0))
            .collect();
        if !outside.is_empty() {
            let _ = writeln!(html, "<p class=\"muted\">Outside the layers: {}</p>", outside.join(", "));
        }
        html.push_str("</details>\n");
    }
    Ok(html)
}

/// A text in HTML, without what could steer a terminal.
fn escaped(text: &str) -> String {
    let mut html = String::new();
    for c in text.chars() {
        match c {
            '&' => html.push_str("&amp;"),
            '<' => html.push_str("&lt;"),
            '>' => html.push_str("&gt;"),
            '"' => html.push_str("&quot;"),
            '\n' | '\t' => html.push(c),
            c => {
                let _ = write!(html, "{}", printable(c.encode_utf8(&mut [0; 4])));
            }
        }
    }
    html
}

#[cfg(test)]
mod tests {
    use super::escaped;

    #[test]
    fn markup_in_texts_is_text() {
        assert_eq!(escaped("<b a=\"1\">&\n"), "&lt;b a=&quot;1&quot;&gt;&amp;\n");
        assert!(!escaped("\x1b[31m").contains('\x1b'));
    }
}
