//! Medians, and how sure they are.

/// The median of some measurements, and between which two of them the true median lies with a
/// confidence of 95 % (by rank, so that nothing is assumed about how they are distributed).
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Median {
    pub(crate) value: f64,
    pub(crate) low: f64,
    pub(crate) high: f64,
}

impl Median {
    /// Of at least one measurement; `None` without any. With fewer than six the bounds are the
    /// smallest and the largest.
    pub(crate) fn of(measurements: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = measurements.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        let (first, last) = (*sorted.first()?, *sorted.last()?);
        let middle = sorted.len() / 2;
        let upper = *sorted.get(middle)?;
        let value = match middle.checked_sub(1).and_then(|lower| sorted.get(lower)) {
            Some(lower) if sorted.len().is_multiple_of(2) => lower.midpoint(upper),
            _ => upper,
        };
        let outside = outside(sorted.len());
        let low = sorted.get(outside).copied().unwrap_or(first);
        let high = sorted.iter().rev().nth(outside).copied().unwrap_or(last);
        Some(Self { value, low, high })
    }
}

/// How many measurements lie outside the bounds on either side: the largest `k` for which `n` fair
/// coins show at most `k` heads with a probability of no more than 2.5 %; 0 when there is none.
fn outside(n: usize) -> usize {
    let mut exactly_k = 0.5_f64.powi(i32::try_from(n).unwrap_or(i32::MAX));
    let mut at_most_k = exactly_k;
    let mut k = 0;
    while at_most_k <= 0.025 && k < n {
        exactly_k *= float(n - k) / float(k + 1);
        k += 1;
        at_most_k += exactly_k;
    }
    k.saturating_sub(1)
}

fn float(count: usize) -> f64 {
    u32::try_from(count).map_or(f64::MAX, f64::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_has_no_median() {
        assert_eq!(Median::of([]), None);
    }

    #[test]
    fn few_measurements_are_as_sure_as_their_extremes() {
        let median = Median::of([3.0, 1.0, 2.0, 4.0]);
        let (value, low, high) = (2.5, 1.0, 4.0);
        assert_eq!(median, Some(Median { value, low, high }));
    }

    #[test]
    fn one_wild_measurement_moves_nothing() {
        let calm = Median::of((0..31).map(f64::from));
        let wild = Median::of((0..30).map(f64::from).chain([1e9]));
        assert_eq!(calm, wild);
    }

    #[test]
    fn bounds_are_those_of_the_tables_for_the_sign_test() {
        for (n, k) in [
            (5, 0),
            (6, 0),
            (8, 0),
            (9, 1),
            (12, 2),
            (20, 5),
            (30, 9),
            (50, 17),
            (100, 39),
        ] {
            assert_eq!(outside(n), k, "{n} measurements");
        }
    }
}
