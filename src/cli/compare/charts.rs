//! The pictures, drawn by `plotters` as SVG.

use anyhow::anyhow;
use gguf_toolkit::compare::{HISTOGRAM_BINS, TensorError, histogram, kl_by_position};
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::report::Report;
use super::theme::{ACCENT, GRID, HEAT, INK, MUTED, SURFACE, Tone, series};

/// Groups of neighbours along a chunk.
const POSITION_BINS: usize = 48;
/// Divergence below which pictures tell no difference.
const LEAST_KL: f64 = 1e-6;
/// Bounds of verdicts, in mean divergence, and what lies below each.
const BANDS: [(f64, &str); 3] = [(0.01, "no visible loss"), (0.06, "small loss"), (0.5, "clear loss")];

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Drawn = anyhow::Result<()>;

/// A picture of so many pixels.
fn picture(width: u32, height: u32, draw: impl FnOnce(&Area<'_>) -> Drawn) -> anyhow::Result<String> {
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, (width, height)).into_drawing_area();
        area.fill(&SURFACE.light).map_err(failed)?;
        draw(&area)?;
        area.present().map_err(failed)?;
    }
    Ok(svg)
}

fn failed(error: impl std::fmt::Display) -> anyhow::Error {
    anyhow!("a picture cannot be drawn: {error}")
}

/// Letters of so many pixels: the library writes a font's size divided by 1.24.
fn font(tone: Tone, size: u32) -> TextStyle<'static> {
    ("sans-serif", f64::from(size) * 1.24).into_font().color(&tone.light)
}

/// Pixels that a text of letters takes at most.
fn text_width(text: &str, size: u32) -> i32 {
    i32::try_from(text.chars().count()).unwrap_or(0) * i32::try_from(size).unwrap_or(0) * 6 / 10
}

/// A number with as few digits as say what it is.
fn short(value: f64) -> String {
    match value {
        0.0 => "0".into(),
        v if v >= 100.0 => format!("{v:.0}"),
        v if v >= 0.001 => format!("{}", (v * 1e4).round() / 1e4),
        v => format!("{v:.0e}"),
    }
}

/// Bounds of an axis of powers that holds all values.
fn powers(values: impl Iterator<Item = f64> + Clone, least: f64) -> (f64, f64) {
    let low = values.clone().filter(|v| *v > 0.0).fold(f64::INFINITY, f64::min).max(least);
    let high = values.fold(0.0, f64::max).max(low);
    if low.is_finite() { (low / 1.6, high * 1.8) } else { (least, 1.0) }
}

/// Size against mean divergence: what is worth its size is joined by a line.
pub(super) fn front(report: &Report, width: u32, height: u32) -> anyhow::Result<String> {
    let (divisor, unit) = unit(report.entries.iter().map(|entry| entry.bytes).max().unwrap_or(0));
    #[allow(clippy::cast_precision_loss, reason = "a place in a picture")]
    let points: Vec<(f64, f64)> = report
        .models()
        .map(|(entry, measured, _)| (entry.bytes as f64 / divisor, measured.statistics.kl.value.max(LEAST_KL)))
        .collect();
    let (low, high) = powers(points.iter().map(|point| point.1), LEAST_KL);
    let (left, right) = points.iter().fold((f64::INFINITY, 0.0f64), |(a, b), p| (a.min(p.0), b.max(p.0)));
    let room = ((right - left) * 0.12).max(right * 0.03);
    let (left, right) = ((left - room).max(0.0), right + room * 1.5);
    picture(width, height, |area| {
        let mut chart = ChartBuilder::on(area)
            .margin(12)
            .x_label_area_size(42)
            .y_label_area_size(62)
            .build_cartesian_2d(left..right, (low..high).log_scale())
            .map_err(failed)?;
        mesh(&mut chart, &format!("size of the file, {unit}"), "mean divergence from the base, nats")?;
        for (bound, below) in BANDS.iter().filter(|(bound, _)| (low..high).contains(bound)) {
            let line = DashedLineSeries::new([(left, *bound), (right, *bound)], 4, 4, MUTED.light.stroke_width(1));
            chart.draw_series(line).map_err(failed)?;
            let style = font(MUTED, 11).pos(Pos::new(HPos::Right, VPos::Top));
            let place = EmptyElement::at((right, *bound)) + Text::new(format!("{below} below"), (-4, 3), style);
            chart.draw_series([place]).map_err(failed)?;
        }
        let mut best: Vec<(f64, f64)> =
            points.iter().zip(&report.efficient).filter(|(_, best)| **best).map(|(point, _)| *point).collect();
        best.sort_by(|a, b| a.0.total_cmp(&b.0));
        chart.draw_series(LineSeries::new(best, ACCENT.light.stroke_width(2))).map_err(failed)?;
        for (point, best) in points.iter().zip(&report.efficient) {
            let style = if *best { ACCENT.light.filled() } else { MUTED.light.stroke_width(2) };
            chart.draw_series([Circle::new(*point, 5, style)]).map_err(failed)?;
        }
        let places: Vec<(i32, i32)> = points.iter().map(|point| chart.backend_coord(point)).collect();
        let names: Vec<&str> = report.entries.iter().map(label).collect();
        let bounds = (i32::try_from(width).unwrap_or(0), i32::try_from(height).unwrap_or(0));
        for ((name, place), best) in names.iter().zip(labels(&places, &names, bounds)).zip(&report.efficient) {
            let style = font(if *best { INK } else { MUTED }, 13);
            area.draw(&Text::new((*name).to_owned(), place, style)).map_err(failed)?;
        }
        Ok(())
    })
}

/// The name of the mix, or of the file where that says none.
pub(super) fn label(entry: &super::report::Entry) -> &str {
    entry.file_type.as_deref().unwrap_or(&entry.name)
}

/// A unit in which the largest size has few digits.
fn unit(bytes: u64) -> (f64, &'static str) {
    match bytes {
        0..=0xF_FFFF => (1024.0, "KiB"),
        0x10_0000..=0x3FFF_FFFF => (1_048_576.0, "MiB"),
        _ => (1_073_741_824.0, "GiB"),
    }
}

/// Upper left corners of names beside their points, where they overlap neither points nor other names if that can be.
fn labels(points: &[(i32, i32)], names: &[&str], bounds: (i32, i32)) -> Vec<(i32, i32)> {
    const HEIGHT: i32 = 14;
    let boxes_of_points = points.iter().map(|&(x, y)| (x - 6, y - 6, 12, 12));
    let mut taken: Vec<(i32, i32, i32, i32)> = boxes_of_points.collect();
    let overlaps = |a: &(i32, i32, i32, i32), b: &(i32, i32, i32, i32)| {
        let (width, height) = (a.2.min(b.0 + b.2 - a.0).min(a.0 + a.2 - b.0), (a.1 + a.3 - b.1).min(b.1 + b.3 - a.1));
        if width > 0 && height > 0 { width * height } else { 0 }
    };
    let mut found = Vec::new();
    for (&(x, y), name) in points.iter().zip(names) {
        let width = text_width(name, 13);
        let choices = [
            (x + 9, y - 7),
            (x - 9 - width, y - 7),
            (x - width / 2, y - 22),
            (x - width / 2, y + 9),
            (x + 7, y - 20),
            (x + 7, y + 7),
            (x - 7 - width, y + 7),
            (x - 7 - width, y - 20),
        ];
        let cost = |&(left, top): &(i32, i32)| {
            let own = (left, top, width, HEIGHT);
            let outside = (left + width - bounds.0 + 4).max(66 - left).max(top + HEIGHT - bounds.1 + 50).max(0);
            taken.iter().map(|other| overlaps(&own, other)).sum::<i32>() + outside * 50
        };
        let place = choices.into_iter().min_by_key(cost).unwrap_or((x, y));
        taken.push((place.0, place.1, width, HEIGHT));
        found.push(place);
    }
    found
}

/// Lines and names of both axes.
fn mesh<X, Y>(chart: &mut ChartContext<'_, SVGBackend<'_>, Cartesian2d<X, Y>>, x_name: &str, y_name: &str) -> Drawn
where
    X: plotters::coord::ranged1d::Ranged<ValueType = f64> + plotters::coord::ranged1d::ValueFormatter<f64>,
    Y: plotters::coord::ranged1d::Ranged<ValueType = f64> + plotters::coord::ranged1d::ValueFormatter<f64>,
{
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(GRID.light)
        .axis_style(GRID.light)
        .label_style(font(MUTED, 12))
        .axis_desc_style(font(MUTED, 12))
        .x_labels(6)
        .y_labels(7)
        .x_desc(x_name)
        .y_desc(y_name)
        .x_label_formatter(&|value| short_signed(*value))
        .y_label_formatter(&|value| short(*value))
        .draw()
        .map_err(failed)
}

fn short_signed(value: f64) -> String {
    if value < 0.0 { format!("-{}", short(-value)) } else { short(value) }
}

/// Where lines are named.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Names {
    /// Beside their ends.
    AtEnds,
    /// In a list at the upper right: where all end at the same place.
    Listed,
}

/// A line for each model, with its name.
struct Lines {
    names: Vec<String>,
    points: Vec<Vec<(f64, f64)>>,
    tones: Vec<Tone>,
    ranks: Vec<usize>,
}

impl Lines {
    /// The lines of all models, coloured by their rank in loss.
    fn new(report: &Report, points: impl Fn(usize) -> Vec<(f64, f64)>) -> Self {
        let ranks = ranks(report);
        let count = report.entries.len();
        Self {
            names: report.entries.iter().map(|entry| label(entry).to_owned()).collect(),
            points: (0..count).map(points).collect(),
            tones: ranks.iter().map(|&rank| series(rank, count)).collect(),
            ranks,
        }
    }

    /// Draws them over `x`, with a logarithmic axis from `least` on.
    fn draw(
        &self,
        (width, height): (u32, u32),
        (from, to): (f64, f64),
        least: f64,
        (x_name, y_name): (&str, &str),
        named: Names,
    ) -> anyhow::Result<String> {
        let values = self.points.iter().flatten().map(|point| point.1);
        let (low, high) = powers(values, least);
        let longest = self.names.iter().map(|name| text_width(name, 12)).max().unwrap_or(0);
        picture(width, height, |area| {
            let mut chart = ChartBuilder::on(area)
                .margin(12)
                .margin_right(longest + 18)
                .x_label_area_size(42)
                .y_label_area_size(62)
                .build_cartesian_2d(from..to, (low..high).log_scale())
                .map_err(failed)?;
            mesh(&mut chart, x_name, y_name)?;
            let mut ends = Vec::new();
            for (points, tone) in self.points.iter().zip(&self.tones) {
                let shown = points.iter().map(|point| (point.0, point.1.max(low)));
                chart.draw_series(LineSeries::new(shown, tone.light.stroke_width(2))).map_err(failed)?;
                let last = points.last().map_or(low, |point| point.1.max(low));
                let at = if named == Names::AtEnds { last } else { high };
                ends.push(chart.backend_coord(&(to, at)));
            }
            if named == Names::Listed {
                ends.iter_mut()
                    .zip(&self.ranks)
                    .for_each(|(end, &rank)| end.1 += i32::try_from(rank).unwrap_or(0) * 16 + 8);
            }
            for ((name, tone), (x, y)) in self.names.iter().zip(&self.tones).zip(apart(&ends)) {
                let style = font(*tone, 12).pos(Pos::new(HPos::Left, VPos::Center));
                area.draw(&Text::new(name.clone(), (x + 6, y), style)).map_err(failed)?;
            }
            Ok(())
        })
    }
}

/// The rank of each model in loss, the least first.
pub(super) fn ranks(report: &Report) -> Vec<usize> {
    let kl: Vec<f64> = report.outcome.models.iter().map(|model| model.statistics.kl.value).collect();
    let mut order: Vec<usize> = (0..kl.len()).collect();
    order.sort_by(|&a, &b| kl[a].total_cmp(&kl[b]));
    let mut ranks = vec![0; kl.len()];
    order.iter().enumerate().for_each(|(rank, &model)| ranks[model] = rank);
    ranks
}

/// Places moved up and down until each has a line of text to itself.
fn apart(places: &[(i32, i32)]) -> Vec<(i32, i32)> {
    const LINE: i32 = 14;
    let mut order: Vec<usize> = (0..places.len()).collect();
    order.sort_by_key(|&i| places[i].1);
    let mut moved = places.to_vec();
    for pair in order.windows(2) {
        moved[pair[1]].1 = moved[pair[1]].1.max(moved[pair[0]].1 + LINE);
    }
    // What was pushed down as a whole comes back by half.
    let excess = order.last().map_or(0, |&last| moved[last].1 - places[last].1);
    moved.iter_mut().for_each(|place| place.1 -= excess / 2);
    moved
}

/// Mean divergence along a chunk.
pub(super) fn by_position(report: &Report, width: u32, height: u32) -> anyhow::Result<String> {
    let outcome = &report.outcome;
    let (first, per_chunk) = (outcome.first(), outcome.per_chunk());
    let lines = Lines::new(report, |model| {
        let bins = kl_by_position(&outcome.models[model].scores, first, per_chunk, POSITION_BINS);
        bins.iter().map(|bin| (bin.position, bin.value.max(LEAST_KL))).collect()
    });
    #[allow(clippy::cast_precision_loss, reason = "a place in a picture")]
    let span = (first as f64, (first + per_chunk) as f64);
    lines.draw((width, height), span, LEAST_KL, ("position in the chunk", "mean divergence, nats"), Names::AtEnds)
}

/// How changes of the true token's probability are spread.
pub(super) fn changes(report: &Report, width: u32, height: u32) -> anyhow::Result<String> {
    #[allow(clippy::cast_precision_loss, reason = "a place in a picture")]
    let least = 0.5 / report.outcome.base.len().max(1) as f64;
    let lines = Lines::new(report, |model| {
        let bars = histogram(&report.outcome.models[model].scores);
        // Each bar is a step.
        #[allow(clippy::cast_precision_loss, reason = "a place in a picture")]
        let edge = |i: usize| (i as f64 / HISTOGRAM_BINS as f64 * 2.0 - 1.0) * 100.0;
        bars.iter()
            .enumerate()
            .flat_map(|(i, bar)| [(edge(i), bar.max(least)), (edge(i + 1), bar.max(least))])
            .collect()
    });
    let names = ("change of the true token's probability, percentage points", "share of the positions");
    lines.draw((width, height), (-100.0, 100.0), least, names, Names::Listed)
}

/// Error of each tensor of a model, by layer and part. `greatest` is the error of the strongest colour.
pub(super) fn heat_map(errors: &[TensorError], greatest: f64, width: u32) -> anyhow::Result<String> {
    let mut parts: Vec<&str> = Vec::new();
    for error in errors.iter().filter(|error| error.layer.is_some()) {
        if !parts.contains(&error.part.as_str()) {
            parts.push(&error.part);
        }
    }
    let layers = errors.iter().filter_map(|error| error.layer).max().map_or(0, |last| last + 1);
    let (rows, columns) = (i32::try_from(parts.len()).unwrap_or(0), i32::try_from(layers).unwrap_or(0));
    let names = parts.iter().map(|part| text_width(part, 12)).max().unwrap_or(0) + 14;
    let room = i32::try_from(width).unwrap_or(0) - names - 12;
    let cell = (room / columns.max(1)).clamp(2, 90);
    let (line, head) = (20, 22);
    let height = u32::try_from(head + rows * line + 8).unwrap_or(0);
    picture(width, height, |area| {
        let every = (34 / cell).max(1);
        for layer in (0..columns).step_by(usize::try_from(every).unwrap_or(1)) {
            let style = font(MUTED, 11).pos(Pos::new(HPos::Center, VPos::Center));
            let place = (names + layer * cell + cell / 2, head / 2);
            area.draw(&Text::new(layer.to_string(), place, style)).map_err(failed)?;
        }
        for (row, part) in parts.iter().enumerate() {
            let top = head + i32::try_from(row).unwrap_or(0) * line;
            let style = font(INK, 12).pos(Pos::new(HPos::Right, VPos::Center));
            area.draw(&Text::new((*part).to_owned(), (names - 8, top + line / 2), style)).map_err(failed)?;
            for error in errors.iter().filter(|error| error.part == **part) {
                let Some(layer) = error.layer.and_then(|layer| i32::try_from(layer).ok()) else { continue };
                let left = names + layer * cell;
                let gap = i32::from(cell > 6);
                let corners = [(left, top + 1), (left + cell - gap, top + line - 1)];
                let strength = (error.relative_rmse / greatest.max(1e-12)).clamp(0.0, 1.0).sqrt();
                area.draw(&Rectangle::new(corners, GRID.light.filled())).map_err(failed)?;
                area.draw(&Rectangle::new(corners, HEAT.light.mix(strength * 0.85).filled())).map_err(failed)?;
                if cell >= 44 {
                    let style = font(INK, 11).pos(Pos::new(HPos::Center, VPos::Center));
                    let text = format!("{:.1} %", error.relative_rmse * 100.0);
                    area.draw(&Text::new(text, (left + cell / 2, top + line / 2), style)).map_err(failed)?;
                }
            }
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::{apart, labels, short};

    #[test]
    fn names_do_not_meet() {
        let points = [(200, 100), (205, 101), (210, 99)];
        let places = labels(&points, &["Q4_K_M", "Q4_K_S", "IQ4_XS"], (400, 300));
        for (i, a) in places.iter().enumerate() {
            for b in &places[i + 1..] {
                assert!((a.0 - b.0).abs() >= 46 || (a.1 - b.1).abs() >= 14, "{places:?}");
            }
        }
        let moved = apart(&[(0, 50), (0, 52), (0, 51)]);
        let mut heights: Vec<i32> = moved.iter().map(|place| place.1).collect();
        heights.sort_unstable();
        assert!(heights.windows(2).all(|pair| pair[1] - pair[0] >= 14), "{heights:?}");
    }

    #[test]
    fn numbers_are_short() {
        assert_eq!([0.0, 0.00001, 0.01, 0.5, 1000.0].map(short), ["0", "1e-5", "0.01", "0.5", "1000"]);
    }
}
