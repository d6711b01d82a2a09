//! What quantizing costs, as `gguf compare` has measured it: the mean divergence from the model in F16, by model and type. Used where a
//! model is chosen before anything of it is here (`gguf browse`). The figures are those of `docs/choosing-a-quant.md`.

use super::Verdict;

/// The measured types of a model.
struct Measured {
    name: &'static str,
    architecture: &'static str,
    /// The number of its parameters, which tells it from others.
    parameters: u64,
    /// Types and mean divergences in nats.
    types: &'static [(&'static str, f64)],
}

const MEASURED: &[Measured] = &[
    Measured {
        name: "storyteller",
        architecture: "llama",
        parameters: 3_672_320,
        types: &[
            ("Q8_0", 0.000_67),
            ("Q6_K", 0.003_64),
            ("Q5_K_M", 0.008_22),
            ("Q5_K_S", 0.008_74),
            ("Q4_K_M", 0.025_20),
            ("Q4_K_S", 0.025_29),
            ("IQ4_XS", 0.031_43),
            ("Q4_0", 0.037_98),
            ("IQ3_M", 0.080_73),
            ("Q3_K_M", 0.072_84),
            ("Q2_K", 0.278_77),
        ],
    },
    Measured {
        name: "SmolLM2-135M",
        architecture: "llama",
        parameters: 134_515_008,
        types: &[("Q4_K_M", 0.033_64), ("IQ3_M", 0.114_63)],
    },
];

/// Types with the numbers that models are published in.
const PUBLISHED: [&str; 3] = ["F32", "BF16", "F16"];

/// Where an expected loss comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Evidence {
    /// The type has the numbers of the published model, or nearly so.
    Published,
    /// It was measured with this very model.
    Measured,
    /// It was measured with the model of this name: another one will differ, larger ones usually lose less.
    Estimated(&'static str),
}

/// How much a model loses by a type.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ExpectedLoss {
    /// Mean divergence from the model in F16, in nats.
    pub mean_kl: f64,
    /// In words.
    pub verdict: Verdict,
    /// Where the figure comes from.
    pub evidence: Evidence,
}

/// What a model of this architecture and number of parameters loses by a type (`Q4_K_M`); `None` for a type that was not measured.
#[must_use]
pub fn expected_loss(architecture: Option<&str>, parameters: Option<u64>, ty: &str) -> Option<ExpectedLoss> {
    let ty = ty.to_ascii_uppercase();
    let of = |mean_kl, evidence| ExpectedLoss { mean_kl, verdict: Verdict::of_mean_kl(mean_kl), evidence };
    if PUBLISHED.contains(&ty.as_str()) {
        return Some(of(0.0, Evidence::Published));
    }
    let kl = |model: &Measured| model.types.iter().find(|(name, _)| *name == ty).map(|(_, kl)| *kl);
    let is_it = |model: &&Measured| Some(model.architecture) == architecture && Some(model.parameters) == parameters;
    if let Some(kl) = MEASURED.iter().find(is_it).and_then(kl) {
        return Some(of(kl, Evidence::Measured));
    }
    // Of several, the one that loses most.
    let estimates = MEASURED.iter().filter_map(|model| Some((kl(model)?, model.name)));
    let (kl, name) = estimates.max_by(|a, b| a.0.total_cmp(&b.0))?;
    Some(of(kl, Evidence::Estimated(name)))
}

#[cfg(test)]
mod tests {
    use super::{Evidence, MEASURED, Verdict, expected_loss};

    #[test]
    fn losses_are_measured_or_estimated() {
        let of =
            |parameters, ty: &str| expected_loss(Some("llama"), Some(parameters), ty).map(|e| (e.verdict, e.evidence));
        assert_eq!(of(3_672_320, "q8_0"), Some((Verdict::Invisible, Evidence::Measured)));
        assert_eq!(of(134_515_008, "Q4_K_M"), Some((Verdict::Small, Evidence::Measured)));
        assert_eq!(of(1, "IQ3_M"), Some((Verdict::Clear, Evidence::Estimated("SmolLM2-135M"))));
        assert_eq!(of(1, "BF16"), Some((Verdict::Invisible, Evidence::Published)));
        assert_eq!(of(1, "UD-Q4_K_XL"), None);
    }

    /// Every figure is one of the page's, and every type that the page measures is here.
    #[test]
    fn figures_are_those_of_the_page() {
        let page = include_str!("../../docs/choosing-a-quant.md");
        let cells = |line: &str| -> Vec<String> { line.split('|').map(|cell| cell.trim().to_owned()).collect() };
        let mut found = 0;
        for line in page.lines().filter(|line| line.starts_with("| ")) {
            let cells = cells(line);
            // type, size, bits, perplexity, change, mean KL, ...; or model and type, bits, mean KL of llama.cpp's mix.
            let (model, ty, kl) = match cells.len() {
                12 => ("storyteller", cells[1].clone(), cells[6].clone()),
                7 => match cells[1].split_once(", ") {
                    Some(("storyteller", ty)) if ty != "Q4_K_M" => ("storyteller", ty.to_owned(), cells[3].clone()),
                    Some(("SmolLM2-135M", ty)) => ("SmolLM2-135M", ty.to_owned(), cells[3].clone()),
                    _ => continue,
                },
                _ => continue,
            };
            let Some(Ok(kl)) = kl.split_whitespace().next().map(str::parse::<f64>) else { continue };
            let model = MEASURED.iter().find(|measured| measured.name == model).expect("a model");
            assert!(model.types.contains(&(&*ty, kl)), "{line}");
            found += 1;
        }
        assert_eq!(found, MEASURED.iter().map(|model| model.types.len()).sum::<usize>());
    }
}
