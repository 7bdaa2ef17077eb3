//! From counters to rates.
//!
//! ```text
//!   counter 100 ──┐ 2 s       a counter only grows; how fast is its growth over the
//!   counter 180 ──┘ ──▶ 40/s  time that passed on the monotonic clock
//!   counter   5 ──────▶ none  it went back: it was reset, nobody knows how far it got before
//! ```
//!
//! The caller says what time it is, so everything here is arithmetic.

use std::time::{Duration, Instant};

/// The rate of one counter.
#[derive(Debug, Default)]
pub(super) struct Rate {
    last: Option<(Instant, u64)>,
}

impl Rate {
    /// Growth per second since the last call. `None` when the counter is not known now or was
    /// not known then, when it went back, and when no time passed.
    pub(super) fn advance(&mut self, now: Instant, counter: Option<u64>) -> Option<f64> {
        let last = std::mem::replace(&mut self.last, counter.map(|counter| (now, counter)));
        let (then, before) = last?;
        per_second(counter?.checked_sub(before)?, now.saturating_duration_since(then))
    }
}

/// The rates of devices that come and go, added up. Each counts two directions: disks read and
/// write, network interfaces receive and transmit.
#[derive(Debug, Default)]
pub(super) struct DeviceRates {
    last_at: Option<Instant>,
    devices: Vec<Device>,
    /// Growth since the first call.
    grown: Option<(u64, u64)>,
}

#[derive(Debug)]
struct Device {
    name: String,
    inward: u64,
    outward: u64,
    present: bool,
}

impl DeviceRates {
    /// Growth per second since the last call, inward and outward, over the devices that were
    /// there then and are there now: what one counted before it appeared is nobody's rate.
    /// `None` when there is no such device or when one's counter went back.
    pub(super) fn advance<'a>(
        &mut self,
        now: Instant,
        counters: impl Iterator<Item = (&'a str, u64, u64)>,
    ) -> (Option<f64>, Option<f64>) {
        let mut grown: Option<(Option<u64>, Option<u64>)> = None;
        for (name, inward, outward) in counters {
            if let Some(device) = self.devices.iter_mut().find(|device| device.name == name) {
                let (sum_in, sum_out) = grown.unwrap_or((Some(0), Some(0)));
                grown = Some((
                    add_growth(sum_in, device.inward, inward),
                    add_growth(sum_out, device.outward, outward),
                ));
                (device.inward, device.outward, device.present) = (inward, outward, true);
            } else {
                let name = name.to_owned();
                self.devices.push(Device { name, inward, outward, present: true });
            }
        }
        self.devices.retain_mut(|device| std::mem::take(&mut device.present));
        if let Some((inward, outward)) = grown {
            let (sum_in, sum_out) = self.grown.unwrap_or_default();
            let sum = |sum: u64, grown: Option<u64>| sum.saturating_add(grown.unwrap_or(0));
            self.grown = Some((sum(sum_in, inward), sum(sum_out, outward)));
        }

        let elapsed = self.last_at.replace(now).map(|then| now.saturating_duration_since(then));
        let rate = |growth: Option<u64>| per_second(growth?, elapsed?);
        let (inward, outward) = grown.unwrap_or((None, None));
        (rate(inward), rate(outward))
    }

    /// All growth that was seen, inward and outward; `None` before there was any device twice.
    pub(super) fn grown(&self) -> (Option<u64>, Option<u64>) {
        self.grown.unzip()
    }

    /// Starts over: the devices could not be read.
    pub(super) fn forget(&mut self) {
        *self = Self { grown: self.grown, ..Self::default() };
    }
}

fn add_growth(sum: Option<u64>, before: u64, now: u64) -> Option<u64> {
    sum?.checked_add(now.checked_sub(before)?)
}

/// `growth` over `elapsed`; `None` when no time passed.
fn per_second(growth: u64, elapsed: Duration) -> Option<f64> {
    (!elapsed.is_zero()).then(|| growth as f64 / elapsed.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_rate_is_growth_over_the_time_that_really_passed() {
        let (mut rate, start) = (Rate::default(), Instant::now());
        assert_eq!(rate.advance(start, Some(100)), None);
        assert_eq!(rate.advance(start + 2 * SECOND, Some(180)), Some(40.0));
        assert_eq!(rate.advance(start + 2 * SECOND, Some(190)), None);
    }

    #[test]
    fn a_reset_costs_one_interval() {
        let (mut rate, start) = (Rate::default(), Instant::now());
        rate.advance(start, Some(100));
        assert_eq!(rate.advance(start + SECOND, Some(5)), None);
        assert_eq!(rate.advance(start + 2 * SECOND, Some(9)), Some(4.0));
    }

    #[test]
    fn the_unknown_breaks_the_chain() {
        let (mut rate, start) = (Rate::default(), Instant::now());
        rate.advance(start, Some(100));
        assert_eq!(rate.advance(start + SECOND, None), None);
        assert_eq!(rate.advance(start + 2 * SECOND, Some(300)), None);
        assert_eq!(rate.advance(start + 3 * SECOND, Some(301)), Some(1.0));
    }

    #[test]
    fn devices_that_come_and_go_bring_no_spike() {
        let (mut rates, start) = (DeviceRates::default(), Instant::now());
        let advance = |rates: &mut DeviceRates, second: u32, counters: &[(&str, u64, u64)]| {
            rates.advance(start + second * SECOND, counters.iter().copied())
        };
        assert_eq!(advance(&mut rates, 0, &[("sda", 10, 20)]), (None, None));
        let appeared = advance(&mut rates, 1, &[("sda", 15, 20), ("sdb", 1 << 40, 1 << 40)]);
        assert_eq!(appeared, (Some(5.0), Some(0.0)));
        assert_eq!(advance(&mut rates, 2, &[("sdb", (1 << 40) + 7, 1 << 40)]).0, Some(7.0));
        assert_eq!(advance(&mut rates, 3, &[]), (None, None));
    }

    #[test]
    fn all_growth_is_summed_up_and_outlives_a_gap() {
        let (mut rates, start) = (DeviceRates::default(), Instant::now());
        rates.advance(start, [("a", 10, 10)].into_iter());
        assert_eq!(rates.grown(), (None, None));
        rates.advance(start + SECOND, [("a", 15, 11)].into_iter());
        rates.forget();
        rates.advance(start + 2 * SECOND, [("a", 100, 100)].into_iter());
        rates.advance(start + 3 * SECOND, [("a", 101, 100), ("b", 9, 9)].into_iter());
        assert_eq!(rates.grown(), (Some(6), Some(1)));
    }

    #[test]
    fn one_reset_device_makes_only_its_direction_unknown() {
        let (mut rates, start) = (DeviceRates::default(), Instant::now());
        rates.advance(start, [("a", 10, 10), ("b", 10, 10)].into_iter());
        let reset = rates.advance(start + SECOND, [("a", 9, 11), ("b", 11, 11)].into_iter());
        assert_eq!(reset, (None, Some(2.0)));
    }

    proptest! {
        #[test]
        fn a_rate_is_known_exactly_when_both_ends_are(
            history in prop::collection::vec((0u64..5_000, prop::option::of(any::<u64>())), 1..50)
        ) {
            let mut rate = Rate::default();
            let mut now = Instant::now();
            let mut before: Option<u64> = None;
            for (step_ms, counter) in history {
                now += Duration::from_millis(step_ms);
                let result = rate.advance(now, counter);
                let growth = before.zip(counter).and_then(|(then, now)| now.checked_sub(then));
                prop_assert_eq!(result.is_some(), growth.is_some() && step_ms > 0);
                if let (Some(result), Some(growth)) = (result, growth) {
                    let counted = result * step_ms as f64 / 1000.0;
                    prop_assert!((counted - growth as f64).abs() <= growth as f64 * 1e-9);
                }
                before = counter;
            }
        }

        #[test]
        fn a_steady_set_of_devices_counts_everything_once(
            growths in prop::collection::vec(prop::collection::vec(0u64..1_000_000, 3), 2..20)
        ) {
            let mut rates = DeviceRates::default();
            let mut now = Instant::now();
            let mut counters = [0u64; 3];
            let mut counted = 0.0;
            let mut expected = 0u64;
            for (step, growth) in growths.iter().enumerate() {
                for (counter, growth) in counters.iter_mut().zip(growth) {
                    *counter += growth;
                }
                now += SECOND;
                let devices = ["a", "b", "c"].into_iter().zip(counters);
                let (rate, _) = rates.advance(now, devices.map(|(name, c)| (name, c, 0)));
                prop_assert_eq!(rate.is_some(), step > 0);
                if let Some(rate) = rate {
                    counted += rate;
                    expected += growth.iter().sum::<u64>();
                }
            }
            prop_assert_eq!(counted, expected as f64);
        }
    }
}
