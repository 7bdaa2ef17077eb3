//! Quantities as people read them. Unknown is `-`, never 0.

pub(crate) use llamactl_protocol::prose::{between, bytes, duration, ordinal};
use llamactl_protocol::series::{Series, SeriesKind, Unit};

/// What stands for a value nobody knows.
pub(crate) const UNKNOWN: &str = "-";

/// `18.2 of 24.0 GiB`: a part of a whole, in the unit of the whole.
pub(crate) fn bytes_of(part: u64, whole: u64) -> String {
    let text = bytes(whole);
    let Some((_, unit)) = text.split_once(' ') else { return text };
    let exponent = ["B", "KiB", "MiB", "GiB", "TiB"].iter().position(|it| *it == unit).unwrap_or(0);
    let scale = 1024f64.powi(i32::try_from(exponent).unwrap_or(0));
    format!("{} of {text}", short(part as f64 / scale))
}

/// `120 MiB/s`
pub(crate) fn bytes_per_second(per_second: f64) -> String {
    format!("{}/s", bytes_f64(per_second))
}

fn bytes_f64(bytes: f64) -> String {
    let mut value = bytes;
    for unit in ["B", "KiB", "MiB", "GiB"] {
        if value.abs() < 1024.0 {
            return match unit {
                "B" => format!("{value:.0} B"),
                _ => format!("{} {unit}", short(value)),
            };
        }
        value /= 1024.0;
    }
    format!("{} TiB", short(value))
}

/// `8.2B`, `494M`: how many weights or tokens.
pub(crate) fn count(count: u64) -> String {
    let mut value = count as f64;
    for unit in ["", "k", "M", "B"] {
        if value < 1000.0 {
            return match unit {
                "" => count.to_string(),
                _ => format!("{}{unit}", short(value)),
            };
        }
        value /= 1000.0;
    }
    format!("{}T", short(value))
}

/// `12%`, from 0..1.
pub(crate) fn percent(ratio: f64) -> String {
    format!("{:.0}%", ratio * 100.0)
}

/// `67 °C`
pub(crate) fn celsius(degrees: f64) -> String {
    format!("{degrees:.0} °C")
}

/// A speed: one decimal below 100.
pub(crate) fn rate(per_second: f64) -> String {
    if per_second >= 99.95 { format!("{per_second:.0}") } else { format!("{per_second:.1}") }
}

/// A value of a series: of a counter, how fast it grows.
pub(crate) fn of_series(series: &Series, value: f64) -> String {
    let grows = series.kind == SeriesKind::Counter;
    match series.unit {
        Unit::Bytes if grows => bytes_per_second(value),
        Unit::Bytes => bytes_f64(value),
        // Seconds of a processor in a second: how many processors it keeps busy.
        Unit::Seconds if grows => percent(value),
        Unit::Seconds => between(0, format!("{:.0}", value * 1000.0).parse().unwrap_or(0)),
        Unit::Ratio => percent(value),
        Unit::Celsius => celsius(value),
        // Joules in a second.
        Unit::Watts | Unit::Joules => format!("{value:.0} W"),
        Unit::Hertz => format!("{:.0} MHz", value / 1e6),
        Unit::Number | Unit::Tokens if grows => format!("{}/s", rate(value)),
        Unit::Number | Unit::Tokens => plain(value),
    }
}

/// How much a counter grew.
pub(crate) fn of_amount(unit: Unit, value: f64) -> String {
    match unit {
        Unit::Bytes => bytes_f64(value),
        Unit::Seconds => between(0, format!("{:.0}", value * 1000.0).parse().unwrap_or(0)),
        Unit::Joules => format!("{:.3} kWh", value / 3.6e6),
        _ => plain(value),
    }
}

/// A number without a unit: whole where it is whole.
pub(crate) fn plain(value: f64) -> String {
    if value.fract() == 0.0 { format!("{value:.0}") } else { format!("{value:.2}") }
}

/// One decimal below 100, none from there.
fn short(value: f64) -> String {
    if value.abs() >= 99.95 { format!("{value:.0}") } else { format!("{value:.1}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use llamactl_protocol::series::of_name;

    #[test]
    fn bytes_in_binary_units() {
        for (value, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1536, "1.5 KiB"),
            (12_288, "12.0 KiB"),
            (5_046_586_573, "4.7 GiB"),
            (u64::MAX, "16777216 TiB"),
        ] {
            assert_eq!(bytes(value), text);
        }
    }

    #[test]
    fn counts_in_decimal_units() {
        for (value, text) in
            [(7, "7"), (32_768, "32.8k"), (494_032_768, "494M"), (8_190_735_360, "8.2B")]
        {
            assert_eq!(count(value), text);
        }
    }

    #[test]
    fn a_value_is_shown_in_the_unit_of_its_series() {
        for (name, value, text) in [
            ("host.memory_size_bytes", 1_073_741_824.0, "1.0 GiB"),
            ("host.disk_read_bytes", 2048.0, "2.0 KiB/s"),
            ("server.tokens_generated", 138.4, "138/s"),
            ("server.cpu_seconds", 1.5, "150%"),
            ("host.cpu_busy_ratio", 0.127, "13%"),
            ("gpu.temperature_celsius", 61.0, "61 °C"),
            ("gpu.power_watts", 74.6, "75 W"),
            ("gpu.core_clock_hertz", 1.98e9, "1980 MHz"),
            ("host.uptime_seconds", 7500.0, "2h5m"),
            ("host.load1", 0.25, "0.25"),
            ("host.cpus", 2.0, "2"),
        ] {
            assert_eq!(of_series(of_name(name).unwrap(), value), text, "{name}");
        }
    }
}
