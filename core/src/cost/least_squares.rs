//! Robust linear least squares: coefficients that a few wild observations do not move, and how far to trust them.
//!
//! The method is Rousseeuw and Leroy's reweighted least squares (Robust Regression and Outlier Detection, 1987, chapter
//! 5). First the least median of squares over fits through as many observations as there are coefficients: it holds with
//! up to half of the observations wild, at whatever place. Then ordinary least squares over all that lie near it. Nothing
//! is random: where there are too many subsets, every n-th is tried.

use super::input::{CostError, Problem, refuse};

/// An observation: what was seen (y) where (x), and how large its noise is against the others'.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Observation<const P: usize> {
    /// The regressors; a 1 for a constant.
    pub at: [f64; P],
    /// What was seen.
    pub seen: f64,
    /// The standard deviation of its noise is σ times this: 1 for noise that is everywhere alike, the size of what is
    /// measured for noise in per cent.
    pub scale: f64,
}

/// What was fitted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Fit<const P: usize> {
    /// The coefficients.
    pub coefficients: [f64; P],
    /// R², over the observations that were used.
    pub r_squared: f64,
    /// How many observations there were.
    pub samples: usize,
    /// How many of them were used; the others were wild.
    pub used: usize,
    /// σ of the noise, at scale 1.
    pub sigma: f64,
    /// (XᵀX)⁻¹ of the used observations.
    inverse: [[f64; P]; P],
    /// Between which residuals nine in ten of all observations lay, the wild ones too, at scale 1; nothing if there are too
    /// few to tell.
    spread: (f64, f64),
}

/// A figure and the 90 % prediction interval around it: of new observations nine in ten lie within.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Interval {
    /// The lower end.
    pub low: f64,
    /// The figure.
    pub expected: f64,
    /// The upper end.
    pub high: f64,
}

/// At most so many subsets are tried.
const MOST_SUBSETS: usize = 2000;
/// Beyond so many standard deviations an observation is wild.
const WILD: f64 = 3.0;
/// What is left of the standard deviation of a normal distribution that is cut there.
const CUT: f64 = 0.9866;

/// Fits `seen = coefficients · at`.
///
/// # Errors
/// Fewer than two observations more than coefficients, figures that are not finite, scales that are not above zero, or
/// observations that do not tell the coefficients apart.
pub fn fit<const P: usize>(observations: &[Observation<P>]) -> Result<Fit<P>, CostError> {
    let (have, need) = (observations.len(), P + 2);
    if have < need {
        return refuse("observations", Problem::TooFew { have, need });
    }
    for one in observations {
        if !one.seen.is_finite() || one.at.iter().any(|value| !value.is_finite()) || !one.scale.is_finite() {
            return refuse("observations", Problem::NotFinite);
        }
        super::input::positive("scale of an observation", one.scale)?;
    }
    // In units of their noise all are alike.
    let rows: Vec<([f64; P], f64)> =
        observations.iter().map(|one| (one.at.map(|value| value / one.scale), one.seen / one.scale)).collect();
    let too_alike = || CostError { field: "observations", problem: Problem::TooAlike };
    let start = least_median(&rows).ok_or_else(too_alike)?;
    let freedom = (have - P) as f64;
    // The median of the least median fit is too small in small samples: the factor is Rousseeuw and Leroy's.
    let mut sigma = 1.4826 * (1.0 + 5.0 / freedom) * median_residual(&rows, &start);
    let mut coefficients = start;
    let mut used: Vec<bool> = Vec::new();
    for _ in 0..20 {
        let near = |row: &([f64; P], f64)| residual(row, &coefficients).abs() <= (WILD * sigma).max(tiny(row.1));
        let now: Vec<bool> = rows.iter().map(near).collect();
        if now == used {
            break;
        }
        let kept: Vec<([f64; P], f64)> =
            rows.iter().zip(&now).filter(|(_, near)| **near).map(|(row, _)| *row).collect();
        if kept.len() < need {
            break;
        }
        let (solved, _) = ordinary(&kept).ok_or_else(too_alike)?;
        (coefficients, used) = (solved, now);
        // From here on the scale of the fit itself, over all: the wild ones do not move a median.
        sigma = 1.4826 * median_residual(&rows, &coefficients) * (have as f64 / freedom).sqrt();
    }
    if used.is_empty() {
        return Err(too_alike());
    }
    let kept: Vec<([f64; P], f64)> = rows.iter().zip(&used).filter(|(_, near)| **near).map(|(row, _)| *row).collect();
    let (coefficients, inverse) = ordinary(&kept).ok_or_else(too_alike)?;
    let squares: f64 = kept.iter().map(|row| residual(row, &coefficients).powi(2)).sum();
    let sigma = (squares / (kept.len() - P) as f64).sqrt() / CUT;
    let plain: Vec<&Observation<P>> =
        observations.iter().zip(&used).filter(|(_, near)| **near).map(|(one, _)| one).collect();
    let r_squared = r_squared(&plain, &coefficients);
    let spread = spread(&rows, &coefficients);
    Ok(Fit { coefficients, r_squared, samples: have, used: kept.len(), sigma, inverse, spread })
}

impl<const P: usize> Fit<P> {
    /// How far a coefficient may be off: its standard error.
    #[must_use]
    pub fn standard_error(&self, coefficient: usize) -> f64 {
        self.sigma * self.inverse[coefficient][coefficient].max(0.0).sqrt()
    }

    /// What it says of a place.
    #[must_use]
    pub fn expected(&self, at: [f64; P]) -> f64 {
        at.iter().zip(&self.coefficients).map(|(value, coefficient)| value * coefficient).sum()
    }

    /// The same with its 90 % prediction interval, for an observation of that scale: `ŷ ± t·σ·√(1 + xᵀ(XᵀX)⁻¹x)`, and on
    /// either side at least what the observations themselves needed. Migrations have longer tails than a normal noise, and
    /// wild ones come again.
    #[must_use]
    pub fn interval(&self, at: [f64; P], scale: f64) -> Interval {
        let expected = self.expected(at);
        let at = at.map(|value| value / scale);
        let leverage: f64 =
            (0..P).map(|row| at[row] * (0..P).map(|column| self.inverse[row][column] * at[column]).sum::<f64>()).sum();
        let half = scale * student_95(self.used - P) * self.sigma * (1.0 + leverage.max(0.0)).sqrt();
        let (low, high) = (half.max(-scale * self.spread.0), half.max(scale * self.spread.1));
        Interval { low: expected - low, expected, high: expected + high }
    }
}

fn residual<const P: usize>((at, seen): &([f64; P], f64), coefficients: &[f64; P]) -> f64 {
    seen - at.iter().zip(coefficients).map(|(value, coefficient)| value * coefficient).sum::<f64>()
}

/// The 5th and the 95th percentile of the residuals.
fn spread<const P: usize>(rows: &[([f64; P], f64)], coefficients: &[f64; P]) -> (f64, f64) {
    let mut all: Vec<f64> = rows.iter().map(|row| residual(row, coefficients)).collect();
    all.sort_by(f64::total_cmp);
    let beyond = all.len() / 20;
    if beyond == 0 { (0.0, 0.0) } else { (all[beyond - 1].min(0.0), all[all.len() - beyond].max(0.0)) }
}

fn tiny(seen: f64) -> f64 {
    1e-9 * seen.abs().max(1e-9)
}

fn median_residual<const P: usize>(rows: &[([f64; P], f64)], coefficients: &[f64; P]) -> f64 {
    let mut sizes: Vec<f64> = rows.iter().map(|row| residual(row, coefficients).abs()).collect();
    sizes.sort_by(f64::total_cmp);
    // The (n + p + 1)/2-th: with it the fit holds with the most wild observations.
    sizes[(rows.len() + P).div_ceil(2).min(rows.len() - 1)]
}

fn least_median<const P: usize>(rows: &[([f64; P], f64)]) -> Option<[f64; P]> {
    let all = subsets(rows.len(), P);
    let stride = all.div_ceil(MOST_SUBSETS).max(1);
    let mut best: Option<(f64, [f64; P])> = None;
    for number in (0..all).step_by(stride) {
        let chosen: Vec<([f64; P], f64)> = subset(number, rows.len(), P).into_iter().map(|index| rows[index]).collect();
        let Some((coefficients, _)) = ordinary(&chosen) else { continue };
        let median = median_residual(rows, &coefficients);
        if best.is_none_or(|(least, _)| median < least) {
            best = Some((median, coefficients));
        }
    }
    best.map(|(_, coefficients)| coefficients)
}

/// How many subsets of `take` there are of `of`; no more than can be counted.
fn subsets(of: usize, take: usize) -> usize {
    (0..take).fold(1_usize, |count, index| count.saturating_mul(of - index) / (index + 1))
}

/// The subset of that number, in the order of their indices.
fn subset(mut number: usize, of: usize, take: usize) -> Vec<usize> {
    let (mut chosen, mut index) = (Vec::with_capacity(take), 0);
    while chosen.len() < take && index < of {
        let with = subsets(of - index - 1, take - chosen.len() - 1);
        if number < with {
            chosen.push(index);
        } else {
            number -= with;
        }
        index += 1;
    }
    chosen
}

/// Ordinary least squares by the normal equations in their own scale: the coefficients and (XᵀX)⁻¹.
fn ordinary<const P: usize>(rows: &[([f64; P], f64)]) -> Option<([f64; P], [[f64; P]; P])> {
    // Columns of unlike size (bytes and seconds) would make the matrix ill-conditioned.
    let size: [f64; P] =
        std::array::from_fn(|column| rows.iter().map(|(at, _)| at[column].powi(2)).sum::<f64>().sqrt());
    if size.iter().any(|size| *size <= 0.0) {
        return None;
    }
    let mut normal = [[0.0; P]; P];
    let mut right = [0.0; P];
    for (at, seen) in rows {
        for row in 0..P {
            right[row] += at[row] / size[row] * seen;
            for column in 0..P {
                normal[row][column] += at[row] / size[row] * at[column] / size[column];
            }
        }
    }
    let inverse = invert(normal)?;
    let coefficients: [f64; P] =
        std::array::from_fn(|row| (0..P).map(|column| inverse[row][column] * right[column]).sum::<f64>() / size[row]);
    let inverse =
        std::array::from_fn(|row| std::array::from_fn(|column| inverse[row][column] / (size[row] * size[column])));
    Some((coefficients, inverse))
}

/// Gauss and Jordan, with pivots. None of a matrix that is singular, or nearly.
fn invert<const P: usize>(mut matrix: [[f64; P]; P]) -> Option<[[f64; P]; P]> {
    let mut inverse: [[f64; P]; P] =
        std::array::from_fn(|row| std::array::from_fn(|column| if row == column { 1.0 } else { 0.0 }));
    for column in 0..P {
        let pivot =
            (column..P).max_by(|one, other| matrix[*one][column].abs().total_cmp(&matrix[*other][column].abs()))?;
        if matrix[pivot][column].abs() < 1e-10 {
            return None;
        }
        matrix.swap(column, pivot);
        inverse.swap(column, pivot);
        let divisor = matrix[column][column];
        for index in 0..P {
            matrix[column][index] /= divisor;
            inverse[column][index] /= divisor;
        }
        for row in (0..P).filter(|row| *row != column) {
            let factor = matrix[row][column];
            for index in 0..P {
                matrix[row][index] -= factor * matrix[column][index];
                inverse[row][index] -= factor * inverse[column][index];
            }
        }
    }
    Some(inverse)
}

fn r_squared<const P: usize>(observations: &[&Observation<P>], coefficients: &[f64; P]) -> f64 {
    let mean = observations.iter().map(|one| one.seen).sum::<f64>() / observations.len() as f64;
    let around: f64 = observations.iter().map(|one| (one.seen - mean).powi(2)).sum();
    let left: f64 = observations.iter().map(|one| residual(&(one.at, one.seen), coefficients).powi(2)).sum();
    if around > 0.0 { 1.0 - left / around } else { 0.0 }
}

/// The 95th percentile of Student's distribution: exact up to four degrees of freedom, then Cornish and Fisher's
/// expansion (Abramowitz and Stegun, 26.7.5), within 0.1 %.
fn student_95(freedom: usize) -> f64 {
    match freedom {
        0 => f64::INFINITY,
        1 => 6.3138,
        2 => 2.9200,
        3 => 2.3534,
        4 => 2.1318,
        _ => {
            let (z, n): (f64, f64) = (1.644_854, freedom as f64);
            let powers = [z.powi(3), z.powi(5), z.powi(7)];
            z + (powers[0] + z) / (4.0 * n)
                + (5.0 * powers[1] + 16.0 * powers[0] + 3.0 * z) / (96.0 * n.powi(2))
                + (3.0 * powers[2] + 19.0 * powers[1] + 17.0 * powers[0] - 15.0 * z) / (384.0 * n.powi(3))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn students_percentiles_are_those_of_the_tables() {
        for (freedom, table) in [(1, 6.314), (3, 2.353), (5, 2.015), (10, 1.812), (30, 1.697), (1000, 1.646)] {
            let ours = student_95(freedom);
            assert!((ours / table - 1.0).abs() < 1e-3, "{freedom}: {ours} {table}");
        }
    }

    #[test]
    fn every_subset_has_one_number() {
        let all: std::collections::BTreeSet<_> = (0..subsets(6, 3)).map(|number| subset(number, 6, 3)).collect();
        assert_eq!(all.len(), 20);
        assert!(all.iter().all(|one| one.len() == 3 && one.windows(2).all(|pair| pair[0] < pair[1])));
    }
}
