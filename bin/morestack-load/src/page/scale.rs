//! Axes: from values to pixels, and where the ticks are.

/// How values spread over an axis.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Scale {
    /// Evenly.
    Linear,
    /// Equal ratios take equal room.
    Log,
}

/// From the least value to the greatest.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Domain {
    /// How values spread.
    pub scale: Scale,
    /// The value at the start.
    pub low: f64,
    /// The value at the end.
    pub high: f64,
}

impl Domain {
    /// An even one.
    pub fn linear(low: f64, high: f64) -> Domain {
        Domain { scale: Scale::Linear, low, high }
    }

    /// A logarithmic one around some values, that begins and ends at round ones. Values of 0 have no place on it.
    pub fn log(values: impl Iterator<Item = f64>) -> Domain {
        let (mut low, mut high) = (f64::INFINITY, 0.0_f64);
        for value in values.filter(|value| *value > 0.0 && value.is_finite()) {
            (low, high) = (low.min(value), high.max(value));
        }
        if high == 0.0 {
            (low, high) = (1.0, 10.0);
        }
        let (low, mut high) = (round_down(low), round_up(high));
        if high <= low {
            high = low * 10.0;
        }
        Domain { scale: Scale::Log, low, high }
    }

    /// Where a value is, from 0 at the start to 1 at the end.
    pub fn place(&self, value: f64) -> f64 {
        let place = match self.scale {
            Scale::Linear => (value - self.low) / (self.high - self.low),
            Scale::Log => (value.max(self.low) / self.low).ln() / (self.high / self.low).ln(),
        };
        place.clamp(0.0, 1.0)
    }

    /// The values that lines are drawn at, and whether each is labelled: of a logarithmic domain.
    pub fn log_ticks(&self) -> Vec<(f64, bool)> {
        let decades = (self.high / self.low).log10();
        let first = self.low.log10().floor() as i32;
        let last = self.high.log10().ceil() as i32;
        let of_decade = |exponent: i32| (1..10).map(move |digit| (digit, f64::from(digit) * 10_f64.powi(exponent)));
        (first..=last)
            .flat_map(of_decade)
            .filter(|(_, value)| *value >= self.low * 0.999 && *value <= self.high * 1.001)
            .map(|(digit, value)| (value, digit == 1 || (decades < 2.5 && matches!(digit, 2 | 5))))
            .collect()
    }
}

/// The next of 1, 2, 5, 10, ... below.
fn round_down(value: f64) -> f64 {
    let decade = 10_f64.powf(value.log10().floor());
    // A float just below the decade that it means would go down one too many.
    let digit = value / decade * 1.000_001;
    decade
        * if digit >= 5.0 {
            5.0
        } else if digit >= 2.0 {
            2.0
        } else {
            1.0
        }
}

/// The next of 1, 2, 5, 10, ... above.
fn round_up(value: f64) -> f64 {
    let decade = 10_f64.powf(value.log10().floor());
    let digit = value / decade * 0.999_999;
    decade
        * if digit > 5.0 {
            10.0
        } else if digit > 2.0 {
            5.0
        } else if digit > 1.0 {
            2.0
        } else {
            1.0
        }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_logarithmic_domain_is_round() {
        let domain = |values: &[f64]| {
            let domain = Domain::log(values.iter().copied());
            (domain.low, domain.high)
        };
        assert_eq!(domain(&[7.9, 133.0]), (5.0, 200.0));
        assert_eq!(domain(&[1_000.0, 10.0]), (10.0, 1_000.0));
        assert_eq!(domain(&[3.0]), (2.0, 5.0));
        assert_eq!(domain(&[10.0]), (10.0, 100.0));
        assert_eq!(domain(&[0.0]), (1.0, 10.0));
        assert_eq!(domain(&[]), (1.0, 10.0));
    }

    #[test]
    fn equal_ratios_take_equal_room() {
        let domain = Domain::log([1.0, 10_000.0].into_iter());
        assert_eq!([1.0, 10.0, 100.0, 10_000.0].map(|v| (domain.place(v) * 4.0).round()), [0.0, 1.0, 2.0, 4.0]);
        // Outside is at the edge.
        assert_eq!([domain.place(0.0), domain.place(1e9)], [0.0, 1.0]);
    }

    #[test]
    fn ticks_are_labelled_where_there_is_room() {
        let labels = |low, high| {
            let domain = Domain { scale: Scale::Log, low, high };
            domain
                .log_ticks()
                .into_iter()
                .filter(|(_, label)| *label)
                .map(|(value, _)| value.round())
                .collect::<Vec<_>>()
        };
        assert_eq!(labels(5.0, 200.0), [5.0, 10.0, 20.0, 50.0, 100.0, 200.0]);
        assert_eq!(labels(1.0, 10_000.0), [1.0, 10.0, 100.0, 1_000.0, 10_000.0]);
    }
}
