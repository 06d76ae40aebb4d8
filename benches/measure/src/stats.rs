//! Medians, and nothing cleverer: they survive a neighbour who takes the core for a while.

/// The median, or NaN of nothing.
pub fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    quartiles(values)[1]
}

/// The first quartile, the median and the third; between two values what lies between them. NaN of nothing.
pub fn quartiles(values: impl IntoIterator<Item = f64>) -> [f64; 3] {
    let mut values: Vec<f64> = values.into_iter().filter(|x| x.is_finite()).collect();
    values.sort_by(f64::total_cmp);
    [0.25, 0.5, 0.75].map(|part| {
        let Some(last) = values.len().checked_sub(1) else { return f64::NAN };
        let place = last as f64 * part;
        let (below, above) = (values[place.floor() as usize], values[place.ceil() as usize]);
        below + (above - below) * place.fract()
    })
}

#[cfg(test)]
mod tests {
    use super::{median, quartiles};

    #[test]
    fn median_of_odd_even_and_nothing() {
        assert_eq!(median([3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median([4.0, 1.0, 2.0, 3.0]), 2.5);
        assert_eq!(median([f64::NAN, 1.0]), 1.0);
        assert!(median([]).is_nan());
    }

    #[test]
    fn quartiles_lie_between_values() {
        assert_eq!(quartiles([5.0, 1.0, 2.0, 4.0, 3.0]), [2.0, 3.0, 4.0]);
        assert_eq!(quartiles([1.0, 2.0]), [1.25, 1.5, 1.75]);
        assert_eq!(quartiles([7.0]), [7.0; 3]);
    }
}
