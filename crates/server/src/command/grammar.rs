//! Grammars that several families share: deadlines as options, and the options of the scans.
//!
//! An option that excludes others is one slot: the same choice twice passes (`NX NX`), a different
//! second one is a syntax error (`NX XX`). A deadline stays text until the command wants it, since
//! some look at the key first: `GETEX absent EX abc` is null and no error.

use crate::command::Args;
use crate::error::{Error, Result};

/// Puts `choice` into an exclusive slot; a syntax error if something else is there.
pub fn choose<T: PartialEq>(slot: &mut Option<T>, choice: T) -> Result<()> {
    match slot {
        Some(other) if *other != choice => Err(Error::Syntax),
        _ => {
            *slot = Some(choice);
            Ok(())
        }
    }
}

/// How the number of a deadline option is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clock {
    /// `EX`: seconds from now.
    Seconds,
    /// `PX`: milliseconds from now.
    Milliseconds,
    /// `EXAT`: Unix time in seconds.
    UnixSeconds,
    /// `PXAT`: Unix time in milliseconds.
    UnixMilliseconds,
}

impl Clock {
    /// The clock of an option word in capitals.
    pub fn of(word: &[u8]) -> Option<Clock> {
        Some(match word {
            b"EX" => Clock::Seconds,
            b"PX" => Clock::Milliseconds,
            b"EXAT" => Clock::UnixSeconds,
            b"PXAT" => Clock::UnixMilliseconds,
            _ => return None,
        })
    }

    /// Whether the number counts from 1970 rather than from now.
    pub fn is_absolute(self) -> bool {
        matches!(self, Clock::UnixSeconds | Clock::UnixMilliseconds)
    }

    /// The Unix time in milliseconds that `number` means, negative ones included; `None` beyond
    /// 64 bits.
    pub fn unix_ms(self, number: i64, now_ms: u64) -> Option<i64> {
        let number_ms = match self {
            Clock::Seconds | Clock::UnixSeconds => number.checked_mul(1000)?,
            Clock::Milliseconds | Clock::UnixMilliseconds => number,
        };
        match self.is_absolute() {
            true => Some(number_ms),
            false => number_ms.checked_add(i64::try_from(now_ms).ok()?),
        }
    }

    /// The deadline that a positive `number` means, Unix time in milliseconds.
    ///
    /// [`Error::InvalidExpire`] in the name of `command` if it is not positive or too large.
    pub fn deadline_ms(self, number: i64, now_ms: u64, command: &'static str) -> Result<u64> {
        Some(number)
            .filter(|number| *number > 0)
            .and_then(|number| self.unix_ms(number, now_ms))
            .and_then(|deadline_ms| u64::try_from(deadline_ms).ok())
            .ok_or(Error::InvalidExpire(command))
    }
}

/// Which deadline option stands in the one slot they share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExpiryChoice {
    /// `KEEPTTL`.
    Keep,
    /// `PERSIST`.
    Persist,
    /// `EX`, `PX`, `EXAT`, `PXAT`.
    At(Clock),
}

/// `[EX n | PX n | EXAT n | PXAT n | KEEPTTL | PERSIST]`, parsed word by word.
#[derive(Clone, Copy, Debug, Default)]
pub struct ExpiryOption<'a> {
    choice: Option<ExpiryChoice>,
    number: &'a [u8],
}

impl<'a> ExpiryOption<'a> {
    /// Takes `word`, and its number from `args`, if it is one of these options; whether it was.
    ///
    /// A syntax error if the number is missing or another of the options was given. Which of
    /// `KEEPTTL` and `PERSIST` is allowed is for the caller to say, by `choice`.
    pub fn accept(&mut self, word: &[u8], args: &mut Args<'a>) -> Result<bool> {
        let choice = match (word, Clock::of(word)) {
            (b"KEEPTTL", _) => ExpiryChoice::Keep,
            (b"PERSIST", _) => ExpiryChoice::Persist,
            (_, Some(clock)) => ExpiryChoice::At(clock),
            _ => return Ok(false),
        };
        choose(&mut self.choice, choice)?;
        if let ExpiryChoice::At(_) = choice {
            self.number = args.take().map_err(|_| Error::Syntax)?;
        }
        Ok(true)
    }

    /// The option that was given.
    pub fn choice(&self) -> Option<ExpiryChoice> {
        self.choice
    }

    /// The deadline in Unix milliseconds, if one was given.
    ///
    /// Errors: not an integer; an invalid expire time, in the name of `command`.
    pub fn deadline_ms(&self, now_ms: u64, command: &'static str) -> Result<Option<u64>> {
        let Some(ExpiryChoice::At(clock)) = self.choice else {
            return Ok(None);
        };
        let number = stdx::number::parse_i64(self.number).ok_or(Error::NotAnInteger)?;
        clock.deadline_ms(number, now_ms, command).map(Some)
    }
}

/// The conditions of the `EXPIRE` family.
#[derive(Clone, Copy, Debug, Default)]
pub struct ExpireConditions {
    nx: bool,
    xx: bool,
    gt: bool,
    lt: bool,
}

impl ExpireConditions {
    /// Parses all that is left of `args`: `[NX | XX | GT | LT]`, `XX` also with `GT` or `LT`.
    pub fn parse(args: &mut Args<'_>) -> Result<ExpireConditions> {
        let mut conditions = ExpireConditions::default();
        while let Some(argument) = args.peek() {
            args.take()?;
            match argument.to_ascii_uppercase().as_slice() {
                b"NX" => conditions.nx = true,
                b"XX" => conditions.xx = true,
                b"GT" => conditions.gt = true,
                b"LT" => conditions.lt = true,
                _ => {
                    let option = String::from_utf8_lossy(argument);
                    return Err(Error::Owned(format!("ERR Unsupported option {option}")));
                }
            }
        }
        conditions.check()
    }

    fn check(self) -> Result<ExpireConditions> {
        if self.nx && (self.xx || self.gt || self.lt) {
            return Err(Error::Plain(
                "ERR NX and XX, GT or LT options at the same time are not compatible",
            ));
        }
        if self.gt && self.lt {
            return Err(Error::Plain("ERR GT and LT options at the same time are not compatible"));
        }
        Ok(self)
    }

    /// Whether a deadline may move from `current_ms` to `new_ms`. None at all is the latest.
    pub fn hold(self, current_ms: Option<u64>, new_ms: i64) -> bool {
        let current_ms = current_ms.map(|ms| i64::try_from(ms).unwrap_or(i64::MAX));
        !(self.nx && current_ms.is_some()
            || self.xx && current_ms.is_none()
            || self.gt && current_ms.is_none_or(|current_ms| new_ms <= current_ms)
            || self.lt && current_ms.is_some_and(|current_ms| new_ms >= current_ms))
    }
}

/// Until when a blocking command waits, Unix time, for its timeout in seconds; `None` is for ever.
pub fn wait_until(timeout: &[u8], now_ms: u64) -> Result<Option<u64>> {
    let seconds = stdx::number::parse_f64(timeout)
        .ok_or(Error::Plain("ERR timeout is not a float or out of range"))?;
    let ms = (seconds * 1000.0).ceil();
    if ms > i64::MAX as f64 - now_ms as f64 {
        return Err(Error::Plain("ERR timeout is out of range"));
    }
    if ms < 0.0 {
        return Err(Error::Plain("ERR timeout is negative"));
    }
    Ok((ms > 0.0).then(|| now_ms + ms as u64))
}

/// The same for a timeout in whole milliseconds.
pub fn block_until(timeout: &[u8], now_ms: u64) -> Result<Option<u64>> {
    let ms = stdx::number::parse_i64(timeout)
        .ok_or(Error::Plain("ERR timeout is not an integer or out of range"))?;
    let ms = u64::try_from(ms).map_err(|_| Error::Plain("ERR timeout is negative"))?;
    if ms > i64::MAX as u64 - now_ms {
        return Err(Error::Plain("ERR timeout is out of range"));
    }
    Ok((ms > 0).then_some(now_ms + ms))
}

/// A number that may not be negative is.
pub const NOT_POSITIVE: &str = "ERR value is out of range, must be positive";
/// A LIMIT that may not be negative is.
pub const NEGATIVE_LIMIT: &str = "ERR LIMIT can't be negative";

/// `text` as a number of at least `least`, else this error.
pub fn at_least(least: usize, text: &[u8], error: &'static str) -> Result<usize> {
    stdx::number::parse_i64(text)
        .and_then(|number| usize::try_from(number).ok())
        .filter(|number| *number >= least)
        .ok_or(Error::Plain(error))
}

/// What the pops from several keys take: the keys, from which end, and how many elements.
pub type PopOption<'a, End> = (&'a [&'a [u8]], End, usize);

/// `numkeys key [key ...] end [COUNT count]`, where `end` reads which end is meant.
pub fn pop_option<'a, End>(
    args: &mut Args<'a>,
    end: impl FnOnce(&mut Args<'a>) -> Result<End>,
) -> Result<PopOption<'a, End>> {
    let n_keys = at_least(1, args.take()?, "ERR numkeys should be greater than 0")?;
    let keys = args.take_n(n_keys)?;
    let end = end(args)?;
    let mut count = 1;
    if args.eat(b"COUNT") {
        count = at_least(1, args.take()?, "ERR count should be greater than 0")?;
    }
    args.end()?;
    Ok((keys, end, count))
}

/// Takes the cursor of a scan.
pub fn cursor(args: &mut Args<'_>) -> Result<u64> {
    let text = args.take()?.trim_ascii_start();
    let digits = text.strip_prefix(b"+").unwrap_or(text);
    std::str::from_utf8(digits)
        .ok()
        .filter(|digits| !digits.starts_with('+'))
        .and_then(|digits| digits.parse().ok())
        .ok_or(Error::Plain("ERR invalid cursor"))
}

/// `[MATCH pattern] [COUNT n] [TYPE name] [NOVALUES | NOSCORES]`: the options behind the cursor of a scan.
#[derive(Clone, Copy, Debug)]
pub struct ScanOptions<'a> {
    /// The pattern that names must match; `None` if all do.
    pub pattern: Option<&'a [u8]>,
    /// About how many elements to visit: at least 1, 10 if not given.
    pub count: usize,
    /// The name of the type of keys to return, in any case; `SCAN` only.
    pub kind: Option<&'a [u8]>,
    /// Whether to leave values out; `HSCAN` only, and `ZSCAN` by the name of `NOSCORES`.
    pub no_values: bool,
}

impl<'a> ScanOptions<'a> {
    /// Parses all that is left of `args`. The name of the command says which options it has.
    pub fn parse(args: &mut Args<'a>) -> Result<ScanOptions<'a>> {
        let (is_scan, is_hscan) = (args.name() == "scan", args.name() == "hscan");
        let is_zscan = args.name() == "zscan";
        let mut options = ScanOptions {
            pattern: None,
            count: 10,
            kind: None,
            no_values: false,
        };
        while let Some(word) = args.word() {
            match &*word {
                b"MATCH" => options.pattern = Some(value_of_option(args)?),
                b"COUNT" => options.count = count(value_of_option(args)?)?,
                b"TYPE" if is_scan => options.kind = Some(value_of_option(args)?),
                b"NOVALUES" if is_hscan => options.no_values = true,
                b"NOSCORES" if is_zscan => options.no_values = true,
                b"NOVALUES" => {
                    return Err(Error::Plain("ERR NOVALUES option can only be used in HSCAN"));
                }
                _ => return Err(Error::Syntax),
            }
        }
        options.pattern = options.pattern.filter(|pattern| *pattern != b"*");
        Ok(options)
    }

    /// Whether the pattern lets `name` through.
    pub fn matches(&self, name: &[u8]) -> bool {
        self.pattern
            .is_none_or(|pattern| stdx::glob::matches(pattern, name, false))
    }
}

fn value_of_option<'a>(args: &mut Args<'a>) -> Result<&'a [u8]> {
    args.take().map_err(|_| Error::Syntax)
}

fn count(text: &[u8]) -> Result<usize> {
    let count = stdx::number::parse_i64(text).ok_or(Error::NotAnInteger)?;
    usize::try_from(count)
        .ok()
        .filter(|count| *count > 0)
        .ok_or(Error::Syntax)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_reach_from_the_past_to_the_end_of_64_bits() {
        assert_eq!(Clock::Seconds.unix_ms(-1, 5_000), Some(4_000));
        assert_eq!(Clock::Milliseconds.unix_ms(7, 5_000), Some(5_007));
        assert_eq!(Clock::UnixSeconds.unix_ms(3, 5_000), Some(3_000));
        assert_eq!(Clock::UnixMilliseconds.unix_ms(i64::MAX, 5_000), Some(i64::MAX));
        assert_eq!(Clock::Milliseconds.unix_ms(i64::MAX, 5_000), None);
        assert_eq!(Clock::Seconds.unix_ms(i64::MIN, 5_000), None);
        assert!(Clock::UnixSeconds.deadline_ms(0, 5_000, "set").is_err());
        assert!(Clock::Seconds.deadline_ms(-1, 5_000, "set").is_err());
        assert!(matches!(Clock::Seconds.deadline_ms(1, 5_000, "set"), Ok(6_000)));
    }

    #[test]
    fn no_deadline_counts_as_the_latest() {
        let gt = ExpireConditions {
            gt: true,
            ..ExpireConditions::default()
        };
        let lt = ExpireConditions {
            lt: true,
            ..ExpireConditions::default()
        };
        assert!(!gt.hold(None, 10));
        assert!(lt.hold(None, 10));
        assert!(gt.hold(Some(9), 10));
        assert!(!gt.hold(Some(10), 10));
        assert!(!lt.hold(Some(10), 10));
        assert!(lt.hold(Some(11), 10));
    }

    #[test]
    fn an_exclusive_slot_refuses_a_different_choice() {
        let mut slot = None;
        assert!(choose(&mut slot, 1).is_ok());
        assert!(choose(&mut slot, 1).is_ok());
        assert!(choose(&mut slot, 2).is_err());
    }
}
