use std::f64::consts::PI;

use super::area::{Area, search};
use super::*;
use crate::encoding::listpack;
use crate::home::{Encoding, Limits, NewPayload, Owned};
use crate::zset::{ZsetMut, ZsetRef};

fn at(longitude: f64, latitude: f64) -> Point {
    Point {
        longitude,
        latitude,
    }
}

/// Numbers from 0 to 1, the same in each run.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> f64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn between(&mut self, low: f64, high: f64) -> f64 {
        low + self.next() * (high - low)
    }
}

#[test]
fn positions_have_the_scores_and_geohashes_that_are_known() {
    let palermo = at(13.361_389, 38.115_556);
    assert_eq!(palermo.score(), 3_479_099_956_230_698.0);
    let stored = Point::of_score(palermo.score());
    assert_eq!(stored, at(13.361_389_338_970_184, 38.115_556_395_496_3));
    assert_eq!(&stored.geohash(), b"sqc8b49rny0");
    let catania = Point::of_score(at(15.087_269, 37.502_669).score());
    assert!((stored.distance_m(catania) - 166_274.151_6).abs() < 1e-4);
}

#[test]
fn a_score_comes_back_to_its_cell() {
    let mut numbers = Numbers(1);
    for _ in 0..10_000 {
        let point = at(numbers.between(-180.0, 180.0), numbers.between(-85.0, 85.0));
        let stored = Point::of_score(point.score());
        assert!((stored.longitude - point.longitude).abs() <= 360.0 / f64::from(1 << 27));
        assert!((stored.latitude - point.latitude).abs() <= 171.0 / f64::from(1 << 27));
        assert_eq!(stored.score(), point.score());
    }
}

#[test]
fn any_score_is_some_position() {
    let odd = [
        0.0,
        -1.0,
        1.5,
        1e300,
        -1e300,
        f64::INFINITY,
        f64::NEG_INFINITY,
        2f64.powi(63),
    ];
    for score in odd {
        let point = Point::of_score(score);
        assert!(point.is_valid(), "{score}: {point:?}");
        assert!(point.geohash().is_ascii());
    }
}

#[test]
fn edges_are_valid_and_what_is_beyond_is_not() {
    for (longitude, latitude) in [(180.0, 85.051_128_78), (-180.0, -85.051_128_78)] {
        assert!(at(longitude, latitude).is_valid());
        assert!(Point::of_score(at(longitude, latitude).score()).is_valid());
    }
    for (longitude, latitude) in [(180.1, 0.0), (0.0, 85.06), (f64::NAN, 0.0), (0.0, f64::NAN)] {
        assert!(!at(longitude, latitude).is_valid());
    }
}

#[test]
fn the_other_side_of_the_earth_is_half_a_circle_away() {
    let half_m = PI * EARTH_RADIUS_M;
    assert!((at(0.0, 0.0).distance_m(at(180.0, 0.0)) - half_m).abs() < 1.0);
    assert!((at(-90.0, 45.0).distance_m(at(90.0, -45.0)) - half_m).abs() < 1.0);
}

fn is_covered_by_ranges(area: &Area, point: Point) -> bool {
    let score = point.score();
    let ranges = area.score_ranges();
    ranges.iter().any(|range| range.contains(&score))
}

#[test]
fn ranges_cover_what_is_inside_and_do_not_overlap() {
    let mut numbers = Numbers(7);
    for _ in 0..400 {
        let centre = at(numbers.between(-150.0, 150.0), numbers.between(-60.0, 60.0));
        let size_m = 10f64.powf(numbers.between(0.0, 6.0));
        let areas = [
            Area::circle(centre, size_m),
            Area::rectangle(centre, size_m, numbers.between(1.0, size_m + 2.0)),
        ];
        for area in areas {
            let mut ranges = area.score_ranges();
            ranges.sort_by(|a, b| a.start.total_cmp(&b.start));
            assert!(ranges.is_sorted_by(|a, b| a.end <= b.start));
            let degrees = 2.0 * size_m / 111_000.0;
            for _ in 0..50 {
                let point = at(
                    centre.longitude + numbers.between(-degrees, degrees),
                    centre.latitude + numbers.between(-degrees, degrees),
                );
                let is_inside = point.is_valid() && area.distance_m(point).is_some();
                assert!(!is_inside || is_covered_by_ranges(&area, point), "{area:?} {point:?}");
            }
        }
    }
}

#[test]
fn a_polygon_is_what_is_within_its_edges() {
    let arrow = [(0.0, 0.0), (10.0, 10.0), (20.0, 0.0), (10.0, 4.0)];
    let area = Area::polygon(arrow.iter().map(|(x, y)| at(*x, *y)).collect());
    for (point, expected) in [
        (at(10.0, 6.0), true),
        (at(10.0, 2.0), false),
        (at(3.0, 2.0), true),
        (at(10.0, 11.0), false),
    ] {
        assert_eq!(area.distance_m(point).is_some(), expected, "{point:?}");
        assert!(!expected || is_covered_by_ranges(&area, point), "{point:?}");
    }
}

#[test]
fn a_polygon_around_the_pole_is_searched_without_harm() {
    let corners = [(0.0, 85.0), (90.0, 85.0), (180.0, 85.0), (-90.0, 85.0)];
    let area = Area::polygon(corners.iter().map(|(x, y)| at(*x, *y)).collect());
    assert!(!area.score_ranges().is_empty());
}

#[test]
fn areas_without_limits_cover_the_earth() {
    for size_m in [1e9, f64::INFINITY] {
        let area = Area::circle(at(10.0, 10.0), size_m);
        let score = at(-170.0, -80.0).score();
        assert!(
            area.score_ranges()
                .iter()
                .any(|range| range.contains(&score))
        );
    }
}

#[test]
fn a_listpack_and_a_tree_are_searched_alike() {
    let mut numbers = Numbers(3);
    let limits = [
        Limits::default(),
        Limits {
            zset_max_listpack_entries: 0,
            ..Limits::default()
        },
    ];
    let empty = || Owned::new(Encoding::ZsetPack, NewPayload::Blob(&listpack::EMPTY));
    let (mut a, mut b) = (empty(), empty());
    let (mut pack, mut tree) = (ZsetMut::new(&mut a, &limits[0]), ZsetMut::new(&mut b, &limits[1]));
    for i in 0..100 {
        let score = at(numbers.between(-10.0, 10.0), numbers.between(-10.0, 10.0)).score();
        let member = format!("m{i}");
        pack.set_score(member.as_bytes(), score);
        tree.set_score(member.as_bytes(), score);
    }
    assert!(tree.view().is_tree() && !pack.view().is_tree());
    let found = |zset: ZsetRef<'_>, area: &Area, n_max| {
        let found = search(zset, area, n_max);
        let names = found.iter().map(|found| found.member.to_vec());
        names.collect::<Vec<_>>()
    };
    for i in 0..100 {
        let centre = at(numbers.between(-10.0, 10.0), numbers.between(-10.0, 10.0));
        let area = Area::circle(centre, f64::from(i) * 10_000.0);
        for n_max in [3, usize::MAX] {
            assert_eq!(found(pack.view(), &area, n_max), found(tree.view(), &area, n_max));
        }
        let n_inside = pack
            .view()
            .iter()
            .filter(|(_, score)| area.distance_m(Point::of_score(*score)).is_some());
        assert_eq!(found(tree.view(), &area, usize::MAX).len(), n_inside.count());
    }
}
