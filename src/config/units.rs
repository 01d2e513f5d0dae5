//! Numbers with their unit, as proxy.yaml writes them: `10s`, `20GiB`, `3.5Mbps`, `10%`, and the few settings that take a
//! word in place of a number.
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Why a text is no value of its type; says what to write instead.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("`{text}` is no {what}, {want}")]
pub struct UnitError {
    text: String,
    what: &'static str,
    want: &'static str,
}

/// A size in bytes: `512KiB`, `20GiB`, `1.5GB`, or a plain number of bytes.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct ByteSize(pub u64);

/// A rate in bits per second: `3.5Mbps`, `300kbps`; `0` where that means "any".
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct BitsPerSecond(pub u64);

/// A share in whole percent: `10%`.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Percent(pub u8);

/// How much media a viewer gets at once when it starts.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(try_from = "String", into = "String")]
pub enum FastStart {
    /// `off`: none, from the first packet on at the pace of the content.
    Off,
    /// `preroll`: as much as the content's header asks players to buffer.
    #[default]
    Preroll,
    /// A duration: so much, whatever the header says.
    For(Duration),
}

/// Is a fill ended when the viewer that began it has left?
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(try_from = "String", into = "String")]
pub enum FinishFill {
    /// `always`: it goes on.
    Always,
    /// `never`: it is ended.
    Never,
    /// A percentage: it goes on when at least so much is there.
    Above(Percent),
}

/// How long content is served after its origin could last be asked.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(try_from = "String", into = "String")]
pub enum StaleIfError {
    /// A duration.
    For(Duration),
    /// `forever`: without end, also when the origin says that the content is gone.
    Forever,
}

const DURATIONS: [(&str, u64); 5] = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

/// Binary units last, so that they are the first choice of what is written.
const SIZES: [(&str, u64); 10] = [
    ("", 1),
    ("kB", 1_000),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
];

const RATES: [(&str, u64); 4] = [("bps", 1), ("kbps", 1_000), ("Mbps", 1_000_000), ("Gbps", 1_000_000_000)];

/// Reads `10s`, `100ms`, `1.5h`, `1h30m`; a unit is needed but for `0`.
pub fn parse_duration(text: &str) -> Result<Duration, UnitError> {
    let error = || UnitError {
        text: text.into(),
        what: "duration",
        want: "want a number and its unit, as in 10s, 100ms or 2m",
    };
    let mut rest = text.trim();
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let unit = rest.trim_start_matches(|c: char| !c.is_ascii_alphabetic());
        let after = unit.trim_start_matches(|c: char| c.is_ascii_alphabetic());
        let (part, after) = rest.split_at_checked(rest.len() - after.len()).ok_or_else(error)?;
        let ms = scaled(part, &DURATIONS).ok_or_else(error)?;
        total = total.checked_add(ms).ok_or_else(error)?;
        rest = after.trim_start();
    }
    if text.trim().is_empty() { Err(error()) } else { Ok(Duration::from_millis(total)) }
}

/// Writes a duration so that [`parse_duration`] reads it again, to the millisecond.
pub fn display_duration(duration: &Duration) -> String {
    let ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    if ms == 0 { "0s".into() } else { written(ms, &DURATIONS) }
}

/// For `#[serde(with = "units::duration")]`.
pub mod duration {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    /// Reads the text.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        super::parse_duration(&String::deserialize(deserializer)?).map_err(D::Error::custom)
    }

    /// Writes the text.
    pub fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&super::display_duration(duration))
    }
}

/// Reads and writes a type as text, in this file's grammar.
macro_rules! as_text {
    ($type:ty, $what:literal, $want:literal, $parse:expr, $display:expr) => {
        impl std::str::FromStr for $type {
            type Err = UnitError;
            fn from_str(text: &str) -> Result<Self, UnitError> {
                let parse: fn(&str) -> Option<Self> = $parse;
                parse(text.trim()).ok_or_else(|| UnitError { text: text.into(), what: $what, want: $want })
            }
        }
        impl TryFrom<String> for $type {
            type Error = UnitError;
            fn try_from(text: String) -> Result<Self, UnitError> {
                text.parse()
            }
        }
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let display: fn(&Self) -> String = $display;
                f.write_str(&display(self))
            }
        }
        impl From<$type> for String {
            fn from(value: $type) -> String {
                value.to_string()
            }
        }
    };
}

as_text!(
    ByteSize,
    "size",
    "want a number and its unit, as in 512KiB or 20GiB",
    |text| scaled(text.strip_suffix('B').filter(|n| n.bytes().all(|b| b.is_ascii_digit())).unwrap_or(text), &SIZES)
        .map(Self),
    |size| written(size.0, &SIZES)
);
as_text!(
    BitsPerSecond,
    "bit rate",
    "want a number and its unit, as in 300kbps or 3.5Mbps (0 = any)",
    |text| if text == "0" { Some(Self(0)) } else { scaled(text, &RATES).map(Self) },
    |rate| if rate.0 == 0 { "0".into() } else { written(rate.0, &RATES) }
);
as_text!(
    Percent,
    "percentage",
    "want 0% to 100%",
    |text| text.strip_suffix('%')?.trim().parse().ok().filter(|&percent| percent <= 100).map(Self),
    |percent| format!("{}%", percent.0)
);
as_text!(
    FastStart,
    "fast start",
    "want preroll, off or a duration as in 5s",
    |text| match text {
        "off" => Some(Self::Off),
        "preroll" => Some(Self::Preroll),
        _ => parse_duration(text).ok().map(|d| if d.is_zero() { Self::Off } else { Self::For(d) }),
    },
    |start| match start {
        Self::Off => "off".into(),
        Self::Preroll => "preroll".into(),
        Self::For(duration) => display_duration(duration),
    }
);
as_text!(
    FinishFill,
    "rule for fills",
    "want always, never or a percentage as in 10%",
    |text| match text {
        "always" => Some(Self::Always),
        "never" => Some(Self::Never),
        _ => text.parse().ok().map(Self::Above),
    },
    |rule| match rule {
        Self::Always => "always".into(),
        Self::Never => "never".into(),
        Self::Above(percent) => percent.to_string(),
    }
);
as_text!(
    StaleIfError,
    "time to serve stale content",
    "want a duration as in 24h, or forever",
    |text| match text {
        "forever" => Some(Self::Forever),
        _ => parse_duration(text).ok().map(Self::For),
    },
    |stale| match stale {
        Self::Forever => "forever".into(),
        Self::For(duration) => display_duration(duration),
    }
);

/// `number unit`, in the smallest unit; digits of a fraction beyond it are dropped. `None` for what does not fit.
fn scaled(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let number_ends = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(number_ends)?;
    let (_, scale) = units.iter().find(|(name, _)| *name == unit.trim_start())?;
    let (whole, fraction) = match number.split_once('.') {
        Some((_, "")) => return None,
        Some((whole, fraction)) => (whole, fraction),
        None => (number, ""),
    };
    let whole: u64 = whole.parse().ok()?;
    // Nine digits tell a byte of a gigabyte.
    let fraction = fraction.get(..fraction.len().min(9))?;
    let part = match fraction {
        "" => 0,
        digits => {
            let parts = u128::from(digits.parse::<u64>().ok()?) * u128::from(*scale);
            u64::try_from(parts / 10_u128.pow(u32::try_from(digits.len()).ok()?)).ok()?
        }
    };
    whole.checked_mul(*scale)?.checked_add(part)
}

/// In the last unit of the list that leaves no fraction.
fn written(value: u64, units: &[(&str, u64)]) -> String {
    let fits = |(_, scale): &&(&str, u64)| value != 0 && value.is_multiple_of(*scale);
    units.iter().rev().find(fits).map_or_else(|| value.to_string(), |(unit, scale)| format!("{}{unit}", value / scale))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_have_a_unit() {
        for (text, ms) in [
            ("10s", 10_000),
            ("100ms", 100),
            ("2m", 120_000),
            ("1.5h", 5_400_000),
            ("1h30m", 5_400_000),
            ("1h 30m", 5_400_000),
            ("1d", 86_400_000),
            ("0", 0),
            ("0s", 0),
        ] {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        for text in ["", "10", "s", "10 apples", "-1s", "1.s", ".5s", "1s2", "99999999999999999d", "é"] {
            let error = parse_duration(text).unwrap_err().to_string();
            assert_eq!(error, format!("`{text}` is no duration, want a number and its unit, as in 10s, 100ms or 2m"));
        }
        assert_eq!(display_duration(&Duration::from_secs(90)), "90s");
        assert_eq!(display_duration(&Duration::from_secs(7200)), "2h");
    }

    #[test]
    fn sizes_and_rates_have_a_unit() {
        for (text, bytes) in
            [("512KiB", 524_288), ("1.5GB", 1_500_000_000), ("20 GiB", 20 << 30), ("4096", 4096), ("1B", 1)]
        {
            assert_eq!(text.parse(), Ok(ByteSize(bytes)), "{text}");
        }
        assert_eq!("3.5Mbps".parse(), Ok(BitsPerSecond(3_500_000)));
        assert_eq!(BitsPerSecond(3_500_000).to_string(), "3500kbps");
        assert_eq!("0".parse(), Ok(BitsPerSecond(0)));
        assert_eq!(
            "20gigs".parse::<ByteSize>().unwrap_err().to_string(),
            "`20gigs` is no size, want a number and its unit, as in 512KiB or 20GiB"
        );
        assert_eq!(
            "300".parse::<BitsPerSecond>().unwrap_err().to_string(),
            "`300` is no bit rate, want a number and its unit, as in 300kbps or 3.5Mbps (0 = any)"
        );
        assert_eq!("101%".parse::<Percent>().unwrap_err().to_string(), "`101%` is no percentage, want 0% to 100%");
    }

    #[test]
    fn words_stand_for_numbers() {
        assert_eq!("5s".parse(), Ok(FastStart::For(Duration::from_secs(5))));
        assert_eq!("0".parse(), Ok(FastStart::Off));
        assert_eq!("10%".parse(), Ok(FinishFill::Above(Percent(10))));
        assert_eq!("forever".parse(), Ok(StaleIfError::Forever));
        assert_eq!(
            "soon".parse::<FastStart>().unwrap_err().to_string(),
            "`soon` is no fast start, want preroll, off or a duration as in 5s"
        );
    }

    proptest! {
        #[test]
        fn any_text_parses_or_errs(text in "([0-9.]{0,20}[a-zA-Z%é ]{0,4}){0,3}") {
            if let Ok(duration) = parse_duration(&text) {
                prop_assert_eq!(parse_duration(&display_duration(&duration)), Ok(duration));
            }
            if let Ok(size) = text.parse::<ByteSize>() {
                prop_assert_eq!(size.to_string().parse(), Ok(size));
            }
            if let Ok(rate) = text.parse::<BitsPerSecond>() {
                prop_assert_eq!(rate.to_string().parse(), Ok(rate));
            }
        }

        #[test]
        fn what_is_written_is_read_again(value: u64) {
            prop_assert_eq!(ByteSize(value).to_string().parse(), Ok(ByteSize(value)));
            prop_assert_eq!(BitsPerSecond(value).to_string().parse(), Ok(BitsPerSecond(value)));
        }
    }
}
