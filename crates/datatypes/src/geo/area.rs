//! Areas of the earth, and the members of a sorted set that lie within.
//!
//! A search reads at most nine ranges of scores: those of a cell no smaller than the area, and of its
//! neighbours. Which step of the grid that is, and the order of the nine, are those of Redis, since
//! an unsorted reply shows them.

use std::f64::consts::PI;
use std::ops::Range;

use super::{
    Bounds, Cell, EARTH_RADIUS_M, LATITUDES, LONGITUDES, Origin, Point, STEP_MAX, radians,
};
use crate::encoding::listpack::Item;
use crate::zset::ZsetRef;

/// Half of the equator on the map of the grid.
const MAP_MAX_M: f64 = 20_037_726.37;

fn degrees(radians: f64) -> f64 {
    radians / (PI / 180.0)
}

#[derive(Clone, Debug)]
enum Shape {
    Circle { radius_m: f64 },
    Rectangle { width_m: f64, height_m: f64 },
    Polygon { vertices: Vec<Point> },
}

/// An area to search.
#[derive(Clone, Debug)]
pub struct Area {
    centre: Point,
    origin: Origin,
    shape: Shape,
}

impl Area {
    fn new(centre: Point, shape: Shape) -> Area {
        Area {
            centre,
            origin: Origin::new(centre),
            shape,
        }
    }

    /// What is no farther from `centre` than this.
    pub fn circle(centre: Point, radius_m: f64) -> Area {
        Area::new(centre, Shape::Circle { radius_m })
    }

    /// What is no farther to the east or west than half the width, and likewise with the height.
    pub fn rectangle(centre: Point, width_m: f64, height_m: f64) -> Area {
        Area::new(centre, Shape::Rectangle { width_m, height_m })
    }

    /// What is within straight lines on the map. Its centre is that of its corners on the sphere.
    pub fn polygon(vertices: Vec<Point>) -> Area {
        let (mut x, mut y, mut z) = (0.0, 0.0, 0.0);
        for vertex in &vertices {
            let (longitude, latitude) = (radians(vertex.longitude), radians(vertex.latitude));
            x += latitude.cos() * longitude.cos();
            y += latitude.cos() * longitude.sin();
            z += latitude.sin();
        }
        let centre = Point {
            longitude: degrees(y.atan2(x)),
            latitude: degrees(z.atan2(diagonal(x, y))),
        };
        Area::new(centre, Shape::Polygon { vertices })
    }

    /// How far a position is from the centre; `None` if it is outside. O(1), or O(corners).
    pub fn distance_m(&self, point: Point) -> Option<f64> {
        match &self.shape {
            Shape::Circle { radius_m } => {
                // Spares most of the trigonometry for what is far off; the margin is for rounding.
                if self.origin.distance_north_m(point) > radius_m * (1.0 + 1e-9) + 1e-3 {
                    return None;
                }
                let distance_m = self.origin.distance_m(point);
                (distance_m <= *radius_m).then_some(distance_m)
            }
            Shape::Rectangle { width_m, height_m } => {
                if self.origin.distance_north_m(point) > height_m / 2.0 {
                    return None;
                }
                let beside = Point {
                    longitude: self.centre.longitude,
                    latitude: point.latitude,
                };
                if point.distance_m(beside) > width_m / 2.0 {
                    return None;
                }
                Some(self.origin.distance_m(point))
            }
            Shape::Polygon { vertices } => {
                is_inside(vertices, point).then(|| self.origin.distance_m(point))
            }
        }
    }

    /// Ranges of scores that cover the area: up to nine, the centre's first.
    pub fn score_ranges(&self) -> Vec<Range<f64>> {
        let bounds = self.bounds();
        let mut cell = Cell::around(self.centre, self.step(&bounds), &LATITUDES);
        if cell.step > 1 && !is_covered(cell, &bounds) {
            cell = Cell::around(self.centre, cell.step - 1, &LATITUDES);
        }
        let own = cell.bounds();
        let is_needed = |(east, north): (i32, i32)| {
            let is_beyond = east < 0 && own.longitudes.start < bounds.longitudes.start
                || east > 0 && own.longitudes.end > bounds.longitudes.end
                || north < 0 && own.latitudes.start < bounds.latitudes.start
                || north > 0 && own.latitudes.end > bounds.latitudes.end;
            cell.step < 2 || !is_beyond
        };
        let mut cells: Vec<Cell> = Vec::with_capacity(9);
        let directions = [
            (0, 0),
            (0, 1),
            (0, -1),
            (1, 0),
            (-1, 0),
            (1, 1),
            (-1, 1),
            (1, -1),
            (-1, -1),
        ];
        for (east, north) in directions.into_iter().filter(|at| is_needed(*at)) {
            let cell = cell.beside(east, north);
            // Around a small grid, two ways lead to the same cell.
            if !cells.contains(&cell) {
                cells.push(cell);
            }
        }
        cells.into_iter().map(Cell::scores).collect()
    }

    /// The step whose cells are no smaller than the area, by a rule of thumb.
    fn step(&self, bounds: &Bounds) -> u32 {
        let mut reach_m = match &self.shape {
            Shape::Circle { radius_m } => *radius_m,
            Shape::Rectangle { width_m, height_m } => diagonal(width_m / 2.0, height_m / 2.0),
            Shape::Polygon { .. } => self.reach_m(bounds),
        };
        if reach_m == 0.0 {
            return STEP_MAX;
        }
        let mut step = 1_i32;
        while reach_m < MAP_MAX_M {
            reach_m *= 2.0;
            step += 1;
        }
        // Cells are narrower towards the poles.
        step -= match self.centre.latitude.abs() {
            latitude if latitude > 80.0 => 4,
            latitude if latitude > 66.0 => 3,
            _ => 2,
        };
        step.clamp(1, STEP_MAX as i32) as u32
    }

    /// The way from the centre to the farthest corner of `bounds`.
    fn reach_m(&self, bounds: &Bounds) -> f64 {
        let (longitudes, latitudes) = (&bounds.longitudes, &bounds.latitudes);
        let mut farthest_m = 0.0_f64;
        for longitude in [longitudes.start, longitudes.end] {
            for latitude in [latitudes.start, latitudes.end] {
                let corner = Point {
                    longitude,
                    latitude,
                };
                farthest_m = farthest_m.max(self.origin.distance_m(corner));
            }
        }
        farthest_m
    }

    /// The degrees that the area lies within; they may lead beyond the grid.
    fn bounds(&self) -> Bounds {
        let (half_width_m, half_height_m) = match &self.shape {
            Shape::Circle { radius_m } => (*radius_m, *radius_m),
            Shape::Rectangle { width_m, height_m } => (width_m / 2.0, height_m / 2.0),
            Shape::Polygon { vertices } => return bounds_of(vertices),
        };
        let Point {
            longitude,
            latitude,
        } = self.centre;
        let north = degrees(half_height_m / EARTH_RADIUS_M);
        // The same width spans more degrees on the edge that is nearer to a pole.
        let edge = if latitude < 0.0 {
            latitude - north
        } else {
            latitude + north
        };
        let east = degrees(half_width_m / EARTH_RADIUS_M / radians(edge).cos());
        Bounds {
            longitudes: longitude - east..longitude + east,
            latitudes: latitude - north..latitude + north,
        }
    }
}

fn diagonal(width: f64, height: f64) -> f64 {
    (width * width + height * height).sqrt()
}

fn bounds_of(points: &[Point]) -> Bounds {
    let mut bounds = Bounds {
        longitudes: LONGITUDES.end..LONGITUDES.start,
        latitudes: LATITUDES.end..LATITUDES.start,
    };
    for point in points {
        let widen = |range: &mut Range<f64>, value: f64| {
            *range = range.start.min(value)..range.end.max(value);
        };
        widen(&mut bounds.longitudes, point.longitude);
        widen(&mut bounds.latitudes, point.latitude);
    }
    bounds
}

/// Whether a cell and its neighbours reach as far as `bounds` do.
fn is_covered(cell: Cell, bounds: &Bounds) -> bool {
    let (north, south) = (cell.beside(0, 1).bounds(), cell.beside(0, -1).bounds());
    let (east, west) = (cell.beside(1, 0).bounds(), cell.beside(-1, 0).bounds());
    let is_short = north.latitudes.end < bounds.latitudes.end
        || south.latitudes.start > bounds.latitudes.start
        || east.longitudes.end < bounds.longitudes.end
        || west.longitudes.start > bounds.longitudes.start;
    !is_short
}

/// Whether a ray from `point` to the east crosses an odd number of edges.
fn is_inside(vertices: &[Point], point: Point) -> bool {
    let mut is_inside = false;
    let befores = vertices.iter().cycle().skip(vertices.len().max(1) - 1);
    for (a, b) in vertices.iter().zip(befores) {
        let is_between = (a.latitude > point.latitude) != (b.latitude > point.latitude);
        let crossing = || {
            (b.longitude - a.longitude) * (point.latitude - a.latitude) / (b.latitude - a.latitude)
                + a.longitude
        };
        is_inside ^= is_between && point.longitude < crossing();
    }
    is_inside
}

// ---- Searching ---------------------------------------------------------------------------------

/// A member within an area.
#[derive(Clone, Copy, Debug)]
pub struct Found<'a> {
    /// The member.
    pub member: Item<'a>,
    /// Its score.
    pub score: f64,
    /// The position that its score stands for.
    pub point: Point,
    /// How far that is from the area's centre.
    pub distance_m: f64,
}

/// Up to `n_max` members within `area`, range by range, lowest scores first. O(log n) and the members
/// of the ranges; a listpack is read once.
pub fn search<'a>(zset: ZsetRef<'a>, area: &Area, n_max: usize) -> Vec<Found<'a>> {
    let look = |member, score| {
        let point = Point::of_score(score);
        let distance_m = area.distance_m(point)?;
        Some(Found {
            member,
            score,
            point,
            distance_m,
        })
    };
    let ranges = area.score_ranges();
    if zset.is_tree() {
        let members = ranges.iter().flat_map(|range| {
            let from = zset.from_score(range.start);
            from.take_while(|(_, score)| *score < range.end)
        });
        let found = members.filter_map(|(member, score)| look(member, score));
        return found.take(n_max).collect();
    }
    let mut found: Vec<(usize, Found<'a>)> = zset
        .iter()
        .filter_map(|(member, score)| {
            let at = ranges.iter().position(|range| range.contains(&score))?;
            Some((at, look(member, score)?))
        })
        .collect();
    found.sort_by_key(|(at, _)| *at);
    found
        .into_iter()
        .map(|(_, found)| found)
        .take(n_max)
        .collect()
}
