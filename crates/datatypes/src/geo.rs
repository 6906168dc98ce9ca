//! Positions on the earth as scores of a sorted set.
//!
//! A position is cut into a cell of a grid of 2^26 by 2^26; the bits of column and row take turns
//! in one number of 52 bits, which a double holds exactly:
//!
//! ```text
//!   score   x25 y25 x24 y24 .. x1 y1 x0 y0      x: column, from the west; y: row, from the south
//!           └── step 2 ──┘                      the first 2n bits name a cell of step n
//! ```
//!
//! So all positions of a bigger cell are one range of scores. Searches are in [`area`]. Distances are
//! great circles on a sphere.

use std::f64::consts::PI;
use std::ops::Range;

pub mod area;
#[cfg(test)]
mod tests;

/// The step of a whole score.
const STEP_MAX: u32 = 26;

/// The earth's radius that Redis reckons with.
const EARTH_RADIUS_M: f64 = 6_372_797.560_856;

/// Longitudes of the grid.
const LONGITUDES: Range<f64> = -180.0..180.0;

/// Latitudes of the grid: those of a square map.
const LATITUDES: Range<f64> = -85.051_128_78..85.051_128_78;

/// Latitudes of the geohashes that others write.
const ALL_LATITUDES: Range<f64> = -90.0..90.0;

/// The digits of a geohash.
const DIGITS: &[u8; 32] = b"0123456789bcdefghjkmnpqrstuvwxyz";

/// A position in degrees.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Point {
    /// Degrees to the east.
    pub longitude: f64,
    /// Degrees to the north.
    pub latitude: f64,
}

impl Point {
    /// Whether it lies on the grid; the poles do not.
    pub fn is_valid(self) -> bool {
        (LONGITUDES.start..=LONGITUDES.end).contains(&self.longitude)
            && (LATITUDES.start..=LATITUDES.end).contains(&self.latitude)
    }

    /// The score that stands for a valid position.
    pub fn score(self) -> f64 {
        Cell::around(self, STEP_MAX, &LATITUDES).bits() as f64
    }

    /// The middle of the cell that a score stands for; some position for any score.
    pub fn of_score(score: f64) -> Point {
        let bounds = Cell::of_bits(bits_of(score), STEP_MAX).bounds();
        let middle = |range: &Range<f64>, limits: &Range<f64>| {
            ((range.start + range.end) / 2.0).clamp(limits.start, limits.end)
        };
        Point {
            longitude: middle(&bounds.longitudes, &LONGITUDES),
            latitude: middle(&bounds.latitudes, &LATITUDES),
        }
    }

    /// The geohash as the world writes it: eleven digits, of which 52 bits are known.
    pub fn geohash(self) -> [u8; 11] {
        let bits = Cell::around(self, STEP_MAX, &ALL_LATITUDES).bits();
        let mut text = [DIGITS[0]; 11];
        for (i, digit) in text.iter_mut().take(10).enumerate() {
            *digit = DIGITS[(bits >> (47 - 5 * i)) as usize & 31];
        }
        text
    }

    /// The way to another position over the surface.
    pub fn distance_m(self, other: Point) -> f64 {
        Origin::new(self).distance_m(other)
    }
}

/// The bits of a score; one that no position has gives what the conversion of the processor gives.
fn bits_of(score: f64) -> u64 {
    const TOP: f64 = (1_u64 << 63) as f64;
    match score {
        _ if score < TOP => score as i64 as u64,
        _ if score < 2.0 * TOP => score as u64,
        _ => 0,
    }
}

fn radians(degrees: f64) -> f64 {
    degrees * (PI / 180.0)
}

/// A position from which many distances are measured.
#[derive(Clone, Copy, Debug)]
struct Origin {
    longitude: f64,
    latitude: f64,
    cosine: f64,
}

impl Origin {
    fn new(point: Point) -> Origin {
        let latitude = radians(point.latitude);
        Origin {
            longitude: radians(point.longitude),
            latitude,
            cosine: latitude.cos(),
        }
    }

    /// The way to the latitude of `point`, which is no longer than that to itself.
    fn distance_north_m(self, point: Point) -> f64 {
        EARTH_RADIUS_M * (radians(point.latitude) - self.latitude).abs()
    }

    fn distance_m(self, point: Point) -> f64 {
        let v = ((radians(point.longitude) - self.longitude) / 2.0).sin();
        if v == 0.0 {
            return self.distance_north_m(point);
        }
        let latitude = radians(point.latitude);
        let u = ((latitude - self.latitude) / 2.0).sin();
        let a = u * u + self.cosine * latitude.cos() * v * v;
        // Rounding may lead beyond the other side of the earth.
        2.0 * EARTH_RADIUS_M * a.sqrt().min(1.0).asin()
    }
}

// ---- Cells -------------------------------------------------------------------------------------

#[derive(Clone, Debug)]
struct Bounds {
    longitudes: Range<f64>,
    latitudes: Range<f64>,
}

/// A cell of the grid of 2^step by 2^step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cell {
    column: u32,
    row: u32,
    step: u32,
}

impl Cell {
    /// The cell of a position. The eastern and northern edge are columns and rows of their own.
    fn around(point: Point, step: u32, latitudes: &Range<f64>) -> Cell {
        let place = |value: f64, range: &Range<f64>| {
            let part = (value - range.start) / (range.end - range.start);
            // The centre of corners around a pole is beyond the grid.
            (part.clamp(0.0, 1.0) * f64::from(1_u32 << step)) as u32
        };
        Cell {
            column: place(point.longitude, &LONGITUDES),
            row: place(point.latitude, latitudes),
            step,
        }
    }

    fn of_bits(bits: u64, step: u32) -> Cell {
        Cell {
            column: every_second_bit(bits >> 1),
            row: every_second_bit(bits),
            step,
        }
    }

    fn bits(self) -> u64 {
        spread_bits(self.row) | spread_bits(self.column) << 1
    }

    fn bounds(self) -> Bounds {
        let edge = |at: u32, range: &Range<f64>| {
            let part = f64::from(at) / f64::from(1_u32 << self.step);
            range.start + part * (range.end - range.start)
        };
        let edges = |at: u32, range| edge(at, range)..edge(at.wrapping_add(1), range);
        Bounds {
            longitudes: edges(self.column, &LONGITUDES),
            latitudes: edges(self.row, &LATITUDES),
        }
    }

    /// The cell some columns to the east and rows to the north, around the earth.
    fn beside(self, east: i32, north: i32) -> Cell {
        let moved = |at: u32, by: i32| match by {
            0 => at,
            by => at.wrapping_add_signed(by) & ((1 << self.step) - 1),
        };
        Cell {
            column: moved(self.column, east),
            row: moved(self.row, north),
            step: self.step,
        }
    }

    /// The scores of the positions within.
    fn scores(self) -> Range<f64> {
        let shift = 2 * (STEP_MAX - self.step);
        (self.bits() << shift) as f64..((self.bits() + 1) << shift) as f64
    }
}

/// Moves the bits of a number to every second place.
fn spread_bits(number: u32) -> u64 {
    let mut bits = u64::from(number);
    bits = (bits | bits << 16) & 0x0000_ffff_0000_ffff;
    bits = (bits | bits << 8) & 0x00ff_00ff_00ff_00ff;
    bits = (bits | bits << 4) & 0x0f0f_0f0f_0f0f_0f0f;
    bits = (bits | bits << 2) & 0x3333_3333_3333_3333;
    (bits | bits << 1) & 0x5555_5555_5555_5555
}

/// The reverse of [`spread_bits`]; the bits between are ignored.
fn every_second_bit(bits: u64) -> u32 {
    let mut bits = bits & 0x5555_5555_5555_5555;
    bits = (bits | bits >> 1) & 0x3333_3333_3333_3333;
    bits = (bits | bits >> 2) & 0x0f0f_0f0f_0f0f_0f0f;
    bits = (bits | bits >> 4) & 0x00ff_00ff_00ff_00ff;
    bits = (bits | bits >> 8) & 0x0000_ffff_0000_ffff;
    (bits | bits >> 16) as u32
}
