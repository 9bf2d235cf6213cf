//! Numbers as text.

/// What stands for a number that there is none of.
pub(super) const NONE: &str = "n/a";

/// A fraction in percent with one decimal.
pub(super) fn percent(fraction: f64) -> String {
    if fraction.is_finite() { format!("{:.1}\u{202f}%", 100.0 * fraction) } else { NONE.into() }
}

/// A fraction in whole percent, for an axis.
pub(super) fn round_percent(fraction: f64) -> String {
    format!("{:.0}\u{202f}%", 100.0 * fraction)
}

/// A fraction in percent that may be missing.
pub(super) fn maybe_percent(fraction: Option<f64>) -> String {
    fraction.map_or_else(|| NONE.into(), percent)
}

/// An interval of fractions in percent.
pub(super) fn interval([low, high]: [f64; 2]) -> String {
    if low.is_finite() && high.is_finite() {
        format!("{:.1} to {:.1}\u{202f}%", 100.0 * low, 100.0 * high)
    } else {
        NONE.into()
    }
}

/// A difference of fractions as percentage points, with its sign.
pub(super) fn points(difference: f64) -> String {
    if difference.is_finite() { format!("{:+.1}", 100.0 * difference) } else { NONE.into() }
}

/// Three decimals, or a power of ten where the number is huge.
pub(super) fn decimal(value: f64) -> String {
    match value.abs() {
        v if !v.is_finite() => NONE.into(),
        v if v >= 1e6 => format!("{value:.2e}"),
        _ => format!("{value:.3}"),
    }
}

/// A whole number with its thousands apart.
pub(super) fn count(count: usize) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A whole number short enough for an axis.
pub(super) fn short(value: f64) -> String {
    match value.abs() {
        v if v >= 1e9 => format!("{value:.0e}"),
        v if v >= 1e6 => format!("{}M", value / 1e6),
        v if v >= 1e4 => format!("{}k", value / 1e3),
        _ => format!("{value}"),
    }
}

/// `1 image`, `2 images`.
pub(super) fn plural(number: usize, noun: &str) -> String {
    format!("{} {noun}{}", count(number), if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_as_a_person_writes_them() {
        assert_eq!(percent(0.9312), "93.1\u{202f}%");
        assert_eq!(percent(f64::NAN), NONE);
        assert_eq!([0, 999, 1000, 1_234_567].map(count), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!([500.0, 12_000.0, 2.5e6].map(short), ["500", "12k", "2.5M"]);
        assert_eq!(points(-0.0123), "-1.2");
    }
}
