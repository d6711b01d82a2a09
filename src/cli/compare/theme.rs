//! Colours of pictures, for light and dark surroundings.
//!
//! Pictures are drawn in the light colours. Where a browser prefers dark ones, a style sheet puts those in their place; a
//! viewer that knows no style sheets shows a light picture.

use plotters::style::RGBColor;

/// A colour in light surroundings, and in dark ones.
#[derive(Clone, Copy)]
pub(super) struct Tone {
    pub(super) light: RGBColor,
    pub(super) dark: RGBColor,
}

const fn tone(light: u32, dark: u32) -> Tone {
    Tone { light: rgb(light), dark: rgb(dark) }
}

#[allow(clippy::cast_possible_truncation, reason = "a byte each")]
const fn rgb(hex: u32) -> RGBColor {
    RGBColor((hex >> 16) as u8, (hex >> 8) as u8, hex as u8)
}

pub(super) const SURFACE: Tone = tone(0xFFFFFF, 0x17191D);
pub(super) const INK: Tone = tone(0x1B1F24, 0xE8EAED);
pub(super) const MUTED: Tone = tone(0x5C6670, 0xA3ABB5);
pub(super) const GRID: Tone = tone(0xE4E7EB, 0x2C3138);
pub(super) const ACCENT: Tone = tone(0x1557B0, 0x8AB4F8);
/// Errors and divergences: the more, the stronger.
pub(super) const HEAT: Tone = tone(0xC2410C, 0xFB923C);

/// One for each model, from the least to the greatest loss.
const SERIES: [Tone; 10] = [
    tone(0x1F5FBF, 0x7AAAF5),
    tone(0x0F7F9F, 0x5CC3DE),
    tone(0x0F8A6A, 0x52CFA9),
    tone(0x4A8F1F, 0x97D268),
    tone(0x8A8000, 0xD3C84B),
    tone(0xB86E00, 0xF2AE4A),
    tone(0xCF4A12, 0xFF8B5E),
    tone(0xC0263F, 0xFF7D90),
    tone(0x9A2F8F, 0xE68ADB),
    tone(0x5F3FB0, 0xAC96F7),
];

/// The colour of the model that has this rank among so many.
pub(super) fn series(rank: usize, count: usize) -> Tone {
    // Few models get colours that are far apart.
    let step = if count <= SERIES.len() / 2 { 2 } else { 1 };
    SERIES[rank * step % SERIES.len()]
}

/// A colour as style sheets have it, and as pictures are drawn in it.
pub(super) fn hex(RGBColor(r, g, b): RGBColor) -> String {
    format!("#{r:02X}{g:02X}{b:02X}")
}

/// The style sheet that makes a picture dark where that is preferred.
pub(super) fn style() -> String {
    let mut rules = String::new();
    for tone in [SURFACE, INK, MUTED, GRID, ACCENT, HEAT].iter().chain(&SERIES) {
        let (light, dark) = (hex(tone.light), hex(tone.dark));
        rules.push_str(&format!("svg [fill=\"{light}\"]{{fill:{dark}}}svg [stroke=\"{light}\"]{{stroke:{dark}}}\n"));
    }
    format!("@media (prefers-color-scheme:dark){{\n{rules}}}\n")
}

/// A picture that stands alone: with its own style sheet.
pub(super) fn alone(svg: &str) -> String {
    match svg.find('>') {
        Some(end) => format!("{}<style>\n{}</style>{}", &svg[..=end], style(), &svg[end + 1..]),
        None => svg.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::{ACCENT, GRID, HEAT, INK, MUTED, SERIES, SURFACE, hex};

    #[test]
    fn every_colour_is_drawn_as_itself() {
        let mut all: Vec<String> =
            [SURFACE, INK, MUTED, GRID, ACCENT, HEAT].iter().chain(&SERIES).map(|tone| hex(tone.light)).collect();
        let count = all.len();
        all.sort();
        all.dedup();
        assert_eq!(all.len(), count, "two tones with the same light colour cannot have two dark ones");
    }
}
