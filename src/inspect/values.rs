//! Statistics of the numbers of one tensor: range, mean, deviation, histogram, outliers, and NaN and infinities. A tensor of any
//! size is read in pieces.

use super::decoded::{DecodeError, Decoder, PIECE};
use crate::gguf::{Reader, TensorInfo};

/// Classes of a histogram.
const CLASSES: usize = 16;
/// Maximum outliers that are listed.
const MAX_OUTLIERS: usize = 8;
/// Values more than this many standard deviations from the mean are outliers.
const FAR: f64 = 8.0;

/// Statistics of the numbers of a tensor.
#[derive(Clone, Debug, PartialEq)]
pub struct Values {
    /// Number of elements.
    pub count: u64,
    /// Elements that are NaN.
    pub nan: u64,
    /// Elements that are infinite.
    pub infinite: u64,
    /// Elements that are zero.
    pub zeros: u64,
    /// Least of the finite elements; NaN if there are none.
    pub min: f64,
    /// Greatest of the finite elements.
    pub max: f64,
    /// Mean of the finite elements.
    pub mean: f64,
    /// Standard deviation of the finite elements.
    pub deviation: f64,
    /// Their distribution.
    pub histogram: Histogram,
    /// Number of finite elements more than eight standard deviations from the mean.
    pub outlier_count: u64,
    /// The elements farthest from the mean, the farthest first.
    pub outliers: Vec<Outlier>,
}

/// Counts of values in bins of equal width, from the least to the greatest value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Histogram {
    /// Elements in each bin.
    pub counts: Vec<u64>,
}

/// An element far from all others.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Outlier {
    /// Number of the element.
    pub index: u64,
    /// Its value.
    pub value: f32,
}

/// Sums over the elements read so far.
#[derive(Default)]
struct Sums {
    finite: u64,
    nan: u64,
    infinite: u64,
    zeros: u64,
    sum: f64,
    min: f64,
    max: f64,
}

/// Computes the statistics of a tensor, which is read twice.
///
/// # Errors
/// When its type cannot be decoded, or the file cannot be read.
pub fn values(reader: &Reader, tensor: &TensorInfo) -> Result<Values, DecodeError> {
    let mut sums = Sums { min: f64::INFINITY, max: f64::NEG_INFINITY, ..Sums::default() };
    each_piece(reader, tensor, &mut |_, piece| sums.add(piece))?;
    let mean = sums.sum / count_f64(sums.finite);
    let width = (sums.max - sums.min) / count_f64(CLASSES as u64);
    let (mut squares, mut counts) = (0.0, vec![0u64; CLASSES]);
    let mut farthest: Vec<(f64, Outlier)> = Vec::new();
    each_piece(reader, tensor, &mut |first, piece| {
        for (index, &value) in (first..).zip(piece) {
            if !value.is_finite() {
                continue;
            }
            let distance = (f64::from(value) - mean).abs();
            squares += distance * distance;
            counts[class(f64::from(value) - sums.min, width)] += 1;
            // Few elements are farther than the outliers found so far.
            if farthest.len() < MAX_OUTLIERS || farthest.last().is_some_and(|(least, _)| distance > *least) {
                farthest.push((distance, Outlier { index, value }));
                farthest.sort_by(|a, b| b.0.total_cmp(&a.0));
                farthest.truncate(MAX_OUTLIERS);
            }
        }
    })?;
    let deviation = (squares / count_f64(sums.finite)).sqrt();
    let is_far = |distance: f64| deviation > 0.0 && distance > FAR * deviation;
    let mut outlier_count = 0;
    if farthest.first().is_some_and(|(distance, _)| is_far(*distance)) {
        each_piece(reader, tensor, &mut |_, piece| {
            let far = |value: &&f32| value.is_finite() && is_far((f64::from(**value) - mean).abs());
            outlier_count += piece.iter().filter(far).count() as u64;
        })?;
    }
    farthest.retain(|(distance, _)| is_far(*distance));
    Ok(Values {
        count: tensor.elements(),
        nan: sums.nan,
        infinite: sums.infinite,
        zeros: sums.zeros,
        min: if sums.finite > 0 { sums.min } else { f64::NAN },
        max: if sums.finite > 0 { sums.max } else { f64::NAN },
        mean,
        deviation,
        histogram: Histogram { counts },
        outlier_count,
        outliers: farthest.into_iter().map(|(_, outlier)| outlier).collect(),
    })
}

#[allow(clippy::cast_precision_loss, reason = "statistics")]
fn count_f64(count: u64) -> f64 {
    count as f64
}

/// The bin of a value that is `above` the least value.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to the classes")]
fn class(above: f64, width: f64) -> usize {
    if width > 0.0 { ((above / width) as usize).min(CLASSES - 1) } else { 0 }
}

impl Sums {
    fn add(&mut self, piece: &[f32]) {
        for &value in piece {
            if value.is_nan() {
                self.nan += 1;
            } else if value.is_infinite() {
                self.infinite += 1;
            } else {
                let value = f64::from(value);
                self.finite += 1;
                self.zeros += u64::from(value == 0.0);
                self.sum += value;
                self.min = self.min.min(value);
                self.max = self.max.max(value);
            }
        }
    }
}

/// Calls `see` with the number of the first element and the elements of each piece.
fn each_piece(reader: &Reader, tensor: &TensorInfo, see: &mut dyn FnMut(u64, &[f32])) -> Result<(), DecodeError> {
    let mut decoder = Decoder::new(reader, tensor)?;
    let (mut first, mut numbers) = (0, vec![0.0; PIECE]);
    while first < tensor.elements() {
        let piece = decoder.read(first, &mut numbers)?;
        see(first, piece);
        first += piece.len() as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{Outlier, values};
    use crate::TensorType;
    use crate::gguf::{Metadata, Reader, TensorSpec, Writer};

    fn of(ty: TensorType, bytes: &[u8]) -> super::Values {
        let count = bytes.len() / ty.block_bytes() * ty.block_len();
        let spec = TensorSpec { name: "w".into(), shape: vec![count as u64], ty };
        let mut writer = Writer::to_sink(Vec::new(), "model", &Metadata::new(), &[spec]).expect("valid");
        writer.write_tensor(bytes).expect("written");
        let reader = Reader::from_bytes("model", writer.into_sink().expect("complete").into()).expect("valid");
        values(&reader, reader.tensor("w").expect("there")).expect("decoded")
    }

    fn floats(values: &[f32]) -> Vec<u8> {
        values.iter().flat_map(|v| v.to_le_bytes()).collect()
    }

    #[test]
    fn moments_are_those_of_the_numbers() {
        let found = of(TensorType::F32, &floats(&[1.0, 2.0, 3.0, 4.0, 0.0, f32::NAN, f32::INFINITY, -0.0]));
        assert_eq!((found.count, found.nan, found.infinite, found.zeros), (8, 1, 1, 2));
        assert_eq!((found.min, found.max), (0.0, 4.0));
        assert!((found.mean - 10.0 / 6.0).abs() < 1e-12 && (found.deviation - 1.490_711_984_999_86).abs() < 1e-12);
        assert_eq!(found.histogram.counts.iter().sum::<u64>(), 6);
        assert_eq!((found.histogram.counts[0], found.histogram.counts[15]), (2, 1));
        assert!(found.outliers.is_empty());
    }

    #[test]
    fn outliers_are_found_in_pieces() {
        let mut all: Vec<f32> = (0..200_000).map(|i| if i % 2 == 0 { 1.0 } else { -1.0 }).collect();
        all[150_001] = -100.0;
        all[7] = 50.0;
        let found = of(TensorType::F32, &floats(&all));
        assert_eq!(found.outlier_count, 2);
        assert_eq!(found.outliers, [Outlier { index: 150_001, value: -100.0 }, Outlier { index: 7, value: 50.0 }]);
    }

    #[test]
    fn integers_and_blocks_are_decoded() {
        let found = of(TensorType::I16, &[0xff, 0xff, 2, 0]);
        assert_eq!((found.min, found.max), (-1.0, 2.0));
        let mut block = vec![0x00, 0x3c];
        block.extend((0..32u8).map(|i| i.wrapping_sub(16)));
        let found = of(TensorType::Q8_0, &block);
        assert_eq!((found.count, found.min, found.max, found.mean), (32, -16.0, 15.0, -0.5));
        let none = of(TensorType::F32, &floats(&[f32::NAN]));
        assert!(none.min.is_nan() && none.mean.is_nan());
    }
}
