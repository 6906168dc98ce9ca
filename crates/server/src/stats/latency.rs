//! The latency monitor: what took longer than `latency-monitor-threshold`, by kind of event.

use std::collections::{BTreeMap, VecDeque};

/// Samples kept of one event.
const SAMPLES_MAX: usize = 160;

/// When, in Unix seconds, and how many milliseconds.
pub type Sample = (u64, u64);

/// One kind of event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Series {
    /// Oldest first, one a second: the worst.
    pub samples: VecDeque<Sample>,
    /// The worst ever.
    pub max_ms: u64,
}

/// See the top of the file.
#[derive(Debug, Default)]
pub struct Latency {
    events: BTreeMap<&'static str, Series>,
}

impl Latency {
    /// Adds a sample.
    pub fn add(&mut self, event: &'static str, (time_s, took_ms): Sample) {
        let series = self.events.entry(event).or_default();
        series.max_ms = series.max_ms.max(took_ms);
        match series.samples.back_mut() {
            Some(last) if last.0 == time_s => last.1 = last.1.max(took_ms),
            _ => series.samples.push_back((time_s, took_ms)),
        }
        if series.samples.len() > SAMPLES_MAX {
            series.samples.pop_front();
        }
    }

    /// All events, by name.
    pub fn all(&self) -> impl Iterator<Item = (&'static str, &Series)> {
        self.events.iter().map(|(name, series)| (*name, series))
    }

    /// An event by its name.
    pub fn get(&self, event: &[u8]) -> Option<(&'static str, &Series)> {
        let event = std::str::from_utf8(event).ok()?;
        let (name, series) = self.events.get_key_value(event)?;
        Some((name, series))
    }

    /// Forgets an event; whether there was one.
    pub fn forget(&mut self, event: &[u8]) -> bool {
        let event = std::str::from_utf8(event).ok();
        event.is_some_and(|event| self.events.remove(event).is_some())
    }

    /// Forgets all; how many there were.
    pub fn clear(&mut self) -> usize {
        std::mem::take(&mut self.events).len()
    }
}

impl Series {
    /// The average of the samples, how far from it they are on average, and the seconds between them.
    pub fn shape(&self, now_s: u64) -> (u64, u64, f64) {
        let n = self.samples.len().max(1) as u64;
        let average = self.samples.iter().map(|(_, ms)| ms).sum::<u64>() / n;
        let apart = self.samples.iter().map(|(_, ms)| ms.abs_diff(average));
        let since_s = self.samples.front().map_or(now_s, |(time_s, _)| *time_s);
        let period_s = now_s.saturating_sub(since_s) as f64 / n as f64;
        (average, apart.sum::<u64>() / n, period_s)
    }

    /// The newest samples as columns of text, with their ages below.
    pub fn graph(&self, event: &str, now_s: u64) -> String {
        const COLUMNS: usize = 80;
        const ROWS: u64 = 4;
        let n_left = self.samples.len().saturating_sub(COLUMNS);
        let shown: Vec<Sample> = self.samples.iter().skip(n_left).copied().collect();
        let high = shown.iter().map(|(_, ms)| *ms).max().unwrap_or(0);
        let low = shown.iter().map(|(_, ms)| *ms).min().unwrap_or(0);
        let mut text = format!(
            "{event} - high {high} ms, low {low} ms (all time high {} ms)\n{}\n",
            self.max_ms,
            "-".repeat(COLUMNS)
        );
        // A column reaches into one of the rows, and there to one of three heights.
        let steps = ROWS * 3;
        let range = (high - low).max(1);
        let heights = shown.iter().map(|(_, ms)| (ms - low) * (steps - 1) / range);
        let heights: Vec<u64> = heights.collect();
        for row in (0..ROWS).rev() {
            let line = heights.iter().map(|height| match height / 3 {
                filled if filled > row => '|',
                filled if filled < row => ' ',
                _ => ['_', 'o', '#'][(height % 3) as usize],
            });
            text.extend(line);
            text.push('\n');
        }
        text.push('\n');
        let ages: Vec<String> = shown
            .iter()
            .map(|(time_s, _)| age(now_s - time_s.min(&now_s)))
            .collect();
        let longest = ages.iter().map(String::len).max().unwrap_or(0);
        for at in 0..longest {
            let line = ages
                .iter()
                .map(|age| age.as_bytes().get(at).map_or(' ', |byte| char::from(*byte)));
            text.extend(line);
            text.push('\n');
        }
        text
    }
}

fn age(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m", seconds / 60),
        3600..86_400 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_of_each_second_is_kept() {
        let mut latency = Latency::default();
        for sample in [(10, 5), (10, 9), (10, 7), (12, 3)] {
            latency.add("command", sample);
        }
        let (_, series) = latency.get(b"command").expect("it is there");
        assert_eq!((&series.samples, series.max_ms), (&VecDeque::from([(10, 9), (12, 3)]), 9));
        assert_eq!(series.shape(20), (6, 3, 5.0));
        for second in 0..1000 {
            latency.add("command", (100 + second, 1));
        }
        let (_, series) = latency.get(b"command").expect("it is there");
        assert_eq!((series.samples.len(), series.max_ms), (SAMPLES_MAX, 9));
        assert!(latency.forget(b"command") && !latency.forget(b"command"));
        assert_eq!(latency.clear(), 0);
    }

    #[test]
    fn a_graph_has_a_column_for_each_sample() {
        let mut latency = Latency::default();
        latency.add("command", (100, 10));
        latency.add("command", (160, 50));
        let (name, series) = latency.get(b"command").expect("it is there");
        let graph = series.graph(name, 161);
        let lines: Vec<&str> = graph.lines().collect();
        assert_eq!(lines[0], "command - high 50 ms, low 10 ms (all time high 50 ms)");
        assert_eq!(&lines[2..], [" #", " |", " |", "_|", "", "11", "ms"]);
    }
}
