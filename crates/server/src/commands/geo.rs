//! Positions: sorted sets whose scores are cells of a grid over the earth.
//!
//! All searches are one: a command's form says where the centre and the area stand in its request;
//! options and replies are the same. What a search stores is a sorted set, of positions or distances.

use datatypes::geo::Point;
use datatypes::geo::area::{Area, Found, search};
use datatypes::zset::ZsetRef;
use keyspace::db::View;
use resp::reply::Reply;
use stdx::number::{I64Text, parse_f64, parse_i64};

use crate::command::{Access, Args, Command, ReadCtx, WriteCtx};
use crate::commands::zset::{AddOptions, add, store, write_item};
use crate::error::{Error, Result};

/// The commands of this family.
pub const COMMANDS: &[Command] = &[
    Command::write("geoadd", -5, geoadd)
        .syntax("key [condition(NX|XX)] [change(CH)] data(longitude latitude member) ...")
        .key(1)
        .deny_oom()
        .access(Access::Update)
        .group("geo")
        .about("3.2.0", "O(log(N)) per member", "Adds members at positions, or moves them."),
    Command::read("geodist", -4, geodist)
        .syntax("key member1 member2 [unit(M|KM|FT|MI)]")
        .key(1)
        .group("geo")
        .about("3.2.0", "O(1)", "Returns the distance between two members."),
    Command::read("geohash", -2, geohash)
        .syntax("key [member ...]")
        .key(1)
        .group("geo")
        .about("3.2.0", "O(1) per member", "Returns the geohashes of members."),
    Command::read("geopos", -2, geopos)
        .syntax("key [member ...]")
        .key(1)
        .group("geo")
        .about("3.2.0", "O(1) per member", "Returns the positions of members."),
    Command::write("georadius", -6, georadius)
        .syntax("key longitude latitude radius unit(M|KM|FT|MI) [WITHCOORD] [WITHDIST] [WITHHASH] [count-block(COUNT count [ANY])] [order(ASC|DESC)] [store(STORE storekey|STOREDIST storedistkey)]")
        .key_and_option(STORE_WORDS, 6)
        .accesses(Access::Read, Access::Overwrite)
        .deny_oom()
        .deprecated("6.2.0", "`GEOSEARCH` and `GEOSEARCHSTORE` with the `BYRADIUS` argument")
        .group("geo")
        .about("3.2.0", "O(N+log(M))", "Finds members around a position, and may store them."),
    Command::read("georadius_ro", -6, georadius_ro)
        .syntax("key longitude latitude radius unit(M|KM|FT|MI) [WITHCOORD] [WITHDIST] [WITHHASH] [count-block(COUNT count [ANY])] [order(ASC|DESC)]")
        .key(1)
        .deprecated("6.2.0", "`GEOSEARCH` with the `BYRADIUS` argument")
        .group("geo")
        .about("3.2.10", "O(N+log(M))", "Finds members around a position."),
    Command::write("georadiusbymember", -5, georadiusbymember)
        .syntax("key member radius unit(M|KM|FT|MI) [WITHCOORD] [WITHDIST] [WITHHASH] [count-block(COUNT count [ANY])] [order(ASC|DESC)] [store(STORE storekey|STOREDIST storedistkey)]")
        .key_and_option(STORE_WORDS, 5)
        .accesses(Access::Read, Access::Overwrite)
        .deny_oom()
        .deprecated("6.2.0", "`GEOSEARCH` and `GEOSEARCHSTORE` with the `BYRADIUS` and `FROMMEMBER` arguments")
        .group("geo")
        .about("3.2.0", "O(N+log(M))", "Finds members around another one, and may store them."),
    Command::read("georadiusbymember_ro", -5, georadiusbymember_ro)
        .syntax("key member radius unit(M|KM|FT|MI) [WITHCOORD] [WITHDIST] [WITHHASH] [count-block(COUNT count [ANY])] [order(ASC|DESC)]")
        .key(1)
        .deprecated("6.2.0", "`GEOSEARCH` with the `BYRADIUS` and `FROMMEMBER` arguments")
        .group("geo")
        .about("3.2.10", "O(N+log(M))", "Finds members around another one."),
    Command::read("geosearch", -7, geosearch)
        .syntax("key from(FROMMEMBER member|FROMLONLAT fromlonlat(longitude latitude)) by(circle(BYRADIUS radius unit(M|KM|FT|MI))|box(BYBOX width height unit(M|KM|FT|MI))|polygon(BYPOLYGON num-vertices vertices(longitude latitude) ...)) [order(ASC|DESC)] [count-block(COUNT count [ANY])] [WITHCOORD] [WITHDIST] [WITHHASH]")
        .key(1)
        .group("geo")
        .about("6.2.0", "O(N+log(M))", "Finds members within an area."),
    Command::write("geosearchstore", -8, geosearchstore)
        .syntax("destination source from(FROMMEMBER member|FROMLONLAT fromlonlat(longitude latitude)) by(circle(BYRADIUS radius unit(M|KM|FT|MI))|box(BYBOX width height unit(M|KM|FT|MI))|polygon(BYPOLYGON num-vertices vertices(longitude latitude) ...)) [order(ASC|DESC)] [count-block(COUNT count [ANY])] [STOREDIST]")
        .keys(1, 2, 1)
        .accesses(Access::Overwrite, Access::Read)
        .deny_oom()
        .group("geo")
        .about("6.2.0", "O(N+log(M))", "Stores the members within an area in another key."),
];

/// The options behind which the older searches have a destination.
const STORE_WORDS: &[&str] = &["STORE", "STOREDIST"];

const NO_MEMBER: Error = Error::Plain("ERR could not decode requested zset member");

// ---- Arguments ---------------------------------------------------------------------------------

/// A longitude and a latitude.
fn position(args: &mut Args<'_>) -> Result<Point> {
    let point = Point {
        longitude: args.float()?,
        latitude: args.float()?,
    };
    if point.is_valid() {
        return Ok(point);
    }
    let Point {
        longitude,
        latitude,
    } = point;
    Err(Error::Owned(format!("ERR invalid longitude,latitude pair {longitude:.6},{latitude:.6}")))
}

/// The metres of a unit.
fn unit_m(args: &mut Args<'_>) -> Result<f64> {
    match args.word().as_deref() {
        Some(b"M") => Ok(1.0),
        Some(b"KM") => Ok(1000.0),
        Some(b"FT") => Ok(0.3048),
        Some(b"MI") => Ok(1609.34),
        _ => Err(Error::Plain("ERR unsupported unit provided. please use M, KM, FT, MI")),
    }
}

fn length(args: &mut Args<'_>, otherwise: &'static str) -> Result<f64> {
    parse_f64(args.take()?).ok_or(Error::Plain(otherwise))
}

/// A distance with four digits behind the point.
fn write_distance(reply: &mut Reply<'_>, distance: f64) {
    let scaled = (distance * 10_000.0).round_ties_even() as i64;
    let text = format!("{}.{:04}", scaled / 10_000, scaled % 10_000);
    reply.bulk(text.as_bytes());
}

fn write_point(reply: &mut Reply<'_>, point: Point) {
    reply.array(2);
    reply.double(point.longitude);
    reply.double(point.latitude);
}

// ---- Members -----------------------------------------------------------------------------------

fn geoadd(ctx: &mut WriteCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let key = args.take()?;
    let mut options = AddOptions::default();
    let mut command = vec![b"ZADD".to_vec(), key.to_vec()];
    while let Some(word) = args.clone().word() {
        match &*word {
            b"NX" => options.nx = true,
            b"XX" => options.xx = true,
            b"CH" => options.counts_changes = true,
            _ => break,
        }
        command.push(word.to_vec());
        args.word();
    }
    let is_complete = !args.is_empty() && args.len().is_multiple_of(3);
    if !is_complete || options.nx && options.xx {
        return Err(Error::Syntax);
    }
    let mut members = Vec::with_capacity(args.len() / 3);
    while !args.is_empty() {
        members.push((position(args)?.score(), args.take()?));
    }
    add(ctx, reply, key, options, &members)?;
    if ctx.effects.is_recorded {
        for (score, member) in members {
            command.extend([
                I64Text::new(score as i64).as_bytes().to_vec(),
                member.to_vec(),
            ]);
        }
        ctx.propagate_owned(&command);
    }
    Ok(())
}

fn geodist(ctx: &mut ReadCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let (key, a, b) = (args.take()?, args.take()?, args.take()?);
    let unit_m = match args.len() {
        0 => 1.0,
        1 => unit_m(args)?,
        _ => return Err(Error::Syntax),
    };
    let zset = ctx.db.zset(key)?.unwrap_or(ZsetRef::EMPTY);
    match (zset.score(a), zset.score(b)) {
        (Some(a), Some(b)) => {
            let distance_m = Point::of_score(a).distance_m(Point::of_score(b));
            write_distance(reply, distance_m / unit_m);
        }
        _ => reply.null(),
    }
    Ok(())
}

/// Shows each member's position by `show`, which gets `None` for one that is not there.
fn each_position(
    ctx: &mut ReadCtx<'_>,
    args: &mut Args<'_>,
    reply: &mut Reply<'_>,
    show: fn(&mut Reply<'_>, Option<Point>),
) -> Result<()> {
    let (key, members) = (args.take()?, args.rest());
    let zset = ctx.db.zset(key)?.unwrap_or(ZsetRef::EMPTY);
    reply.array(members.len());
    for member in members {
        show(reply, zset.score(member).map(Point::of_score));
    }
    Ok(())
}

fn geohash(ctx: &mut ReadCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    each_position(ctx, args, reply, |reply, point| match point {
        Some(point) => reply.bulk(&point.geohash()),
        None => reply.null(),
    })
}

fn geopos(ctx: &mut ReadCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    each_position(ctx, args, reply, |reply, point| match point {
        Some(point) => write_point(reply, point),
        None => reply.null_array(),
    })
}

// ---- Searches ----------------------------------------------------------------------------------

/// Where centre and area stand in a request.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    /// GEORADIUS: both first, the centre as a position.
    Position,
    /// GEORADIUSBYMEMBER: both first, the centre as a member.
    Member,
    /// GEOSEARCH: among the options.
    Options,
}

/// An area without its centre, in the unit of the request.
enum Extent {
    Radius(f64),
    Box { width: f64, height: f64 },
    Polygon(Vec<Point>),
}

/// What the centre is said to be.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Centre {
    #[default]
    Position,
    Member,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Order {
    Ascending,
    Descending,
}

/// What a search looks for, and what becomes of it.
struct Query<'a> {
    /// The word that said where the centre is, and what it said.
    centre: Option<(Centre, Point)>,
    extent: Option<Extent>,
    unit_m: f64,
    order: Option<Order>,
    count: Option<usize>,
    any: bool,
    with_coord: bool,
    with_dist: bool,
    with_hash: bool,
    destination: Option<&'a [u8]>,
    stores_distances: bool,
}

/// The words of a request that depend on which command it is.
#[derive(Clone, Copy)]
struct Grammar {
    form: Form,
    /// It may have a destination, as an option or before the source.
    may_store: bool,
}

impl<'a> Query<'a> {
    /// Parses what follows the source key. A member of a set that is not there is taken for some
    /// position, since nothing will be found around it.
    fn parse(
        args: &mut Args<'a>,
        grammar: Grammar,
        (zset, destination): (Option<ZsetRef<'_>>, Option<&'a [u8]>),
    ) -> Result<Query<'a>> {
        let mut query = Query {
            centre: None,
            extent: None,
            unit_m: 1.0,
            order: None,
            count: None,
            any: false,
            with_coord: false,
            with_dist: false,
            with_hash: false,
            destination,
            stores_distances: false,
        };
        match grammar.form {
            Form::Options => {}
            Form::Position => {
                query.centre = Some((Centre::Position, position(args)?));
                query.radius(args)?;
            }
            Form::Member if zset.is_some() => {
                query.member(args, zset)?;
                query.radius(args)?;
            }
            Form::Member => {
                args.take_n(3)?;
                query.centre = Some((Centre::Member, Point::default()));
                query.extent = Some(Extent::Radius(0.0));
            }
        }
        while let Some(word) = args.word() {
            query.option(&word, args, grammar, zset)?;
        }
        query.check(grammar.form, args.name())?;
        Ok(query)
    }

    fn option(
        &mut self,
        word: &[u8],
        args: &mut Args<'a>,
        grammar: Grammar,
        zset: Option<ZsetRef<'_>>,
    ) -> Result<()> {
        let is_search = grammar.form == Form::Options;
        match word {
            b"WITHDIST" => self.with_dist = true,
            b"WITHHASH" => self.with_hash = true,
            b"WITHCOORD" => self.with_coord = true,
            b"ANY" => self.any = true,
            b"ASC" => self.order = Some(Order::Ascending),
            b"DESC" => self.order = Some(Order::Descending),
            b"COUNT" if !args.is_empty() => self.count = Some(count(args)?),
            b"STOREDIST" if is_search && grammar.may_store => self.stores_distances = true,
            b"STORE" | b"STOREDIST" if !is_search && grammar.may_store => {
                self.destination = Some(args.take()?);
                self.stores_distances = word == b"STOREDIST";
            }
            b"FROMMEMBER" | b"FROMLONLAT" | b"BYRADIUS" | b"BYBOX" | b"BYPOLYGON" if is_search => {
                self.area_option(word, args, zset)?;
            }
            _ => return Err(Error::Syntax),
        }
        Ok(())
    }

    /// Centre and extent may be said again in the same way, but not in two.
    fn area_option(
        &mut self,
        word: &[u8],
        args: &mut Args<'a>,
        zset: Option<ZsetRef<'_>>,
    ) -> Result<()> {
        let kind = self.centre.map(|(kind, _)| kind);
        let may_be = |other| !self.has_polygon() && kind.is_none_or(|kind| kind == other);
        match (word, &self.extent) {
            (b"FROMMEMBER", _) if may_be(Centre::Member) => self.member(args, zset),
            (b"FROMLONLAT", _) if may_be(Centre::Position) && args.len() >= 2 => {
                self.centre = Some((Centre::Position, position(args)?));
                Ok(())
            }
            (b"BYRADIUS", None | Some(Extent::Radius(_))) if args.len() >= 2 => self.radius(args),
            (b"BYBOX", None | Some(Extent::Box { .. })) if args.len() >= 3 => self.rectangle(args),
            (b"BYPOLYGON", None | Some(Extent::Polygon(_)))
                if kind.is_none() && args.len() >= 2 =>
            {
                self.polygon(args)
            }
            _ => Err(Error::Syntax),
        }
    }

    fn has_polygon(&self) -> bool {
        matches!(self.extent, Some(Extent::Polygon(_)))
    }

    fn member(&mut self, args: &mut Args<'a>, zset: Option<ZsetRef<'_>>) -> Result<()> {
        let member = args.take()?;
        let score = match zset {
            Some(zset) => zset.score(member).ok_or(NO_MEMBER)?,
            None => 0.0,
        };
        self.centre = Some((Centre::Member, Point::of_score(score)));
        Ok(())
    }

    fn radius(&mut self, args: &mut Args<'a>) -> Result<()> {
        let radius = length(args, "ERR need numeric radius")?;
        if radius < 0.0 {
            return Err(Error::Plain("ERR radius cannot be negative"));
        }
        self.unit_m = unit_m(args)?;
        self.extent = Some(Extent::Radius(radius));
        Ok(())
    }

    fn rectangle(&mut self, args: &mut Args<'a>) -> Result<()> {
        let width = length(args, "ERR need numeric width")?;
        let height = length(args, "ERR need numeric height")?;
        if width < 0.0 || height < 0.0 {
            return Err(Error::Plain("ERR height or width cannot be negative"));
        }
        self.unit_m = unit_m(args)?;
        self.extent = Some(Extent::Box { width, height });
        Ok(())
    }

    fn polygon(&mut self, args: &mut Args<'a>) -> Result<()> {
        let n = parse_i64(args.take()?).ok_or(Error::Plain("ERR invalid number of vertices"))?;
        if n < 3 || n > (args.len() / 2) as i64 {
            return Err(Error::Plain("ERR GEOSEARCH BYPOLYGON must have at least 3 vertices"));
        }
        let vertices = (0..n).map(|_| position(args)).collect::<Result<_>>()?;
        self.unit_m = 1.0;
        self.extent = Some(Extent::Polygon(vertices));
        Ok(())
    }

    fn check(&self, form: Form, name: &str) -> Result<()> {
        if self.destination.is_some() && (self.with_coord || self.with_dist || self.with_hash) {
            return Err(Error::Plain(match form {
                Form::Options => {
                    "ERR GEOSEARCHSTORE is not compatible with WITHDIST, WITHHASH and WITHCOORD \
                     options"
                }
                _ => {
                    "ERR STORE option in GEORADIUS is not compatible with WITHDIST, WITHHASH and \
                     WITHCOORD options"
                }
            }));
        }
        let name = name.to_ascii_uppercase();
        if self.centre.is_none() && !self.has_polygon() {
            return Err(Error::Owned(format!(
                "ERR exactly one of FROMMEMBER or FROMLONLAT can be specified for {name}"
            )));
        }
        if self.extent.is_none() {
            return Err(Error::Owned(format!(
                "ERR exactly one of BYRADIUS and BYBOX can be specified for {name}"
            )));
        }
        if self.any && self.count.is_none() {
            return Err(Error::Plain("ERR the ANY argument requires COUNT argument"));
        }
        Ok(())
    }

    fn area(&mut self) -> Option<Area> {
        let unit_m = self.unit_m;
        let centre = self.centre.unwrap_or_default().1;
        Some(match self.extent.take()? {
            Extent::Radius(radius) => Area::circle(centre, radius * unit_m),
            Extent::Box { width, height } => {
                Area::rectangle(centre, width * unit_m, height * unit_m)
            }
            Extent::Polygon(vertices) => Area::polygon(vertices),
        })
    }

    /// What is found, in order. Without ANY, some of all have to be the nearest.
    fn find<'v>(&mut self, zset: ZsetRef<'v>) -> Vec<Found<'v>> {
        let n_max = self.count.unwrap_or(usize::MAX);
        let Some(area) = self.area() else {
            return Vec::new();
        };
        let found = search(zset, &area, if self.any { n_max } else { usize::MAX });
        let is_nearest = self.count.is_some() && !self.any;
        match self.order.or(is_nearest.then_some(Order::Ascending)) {
            Some(order) => sorted(&found, order, n_max),
            None => found,
        }
    }

    fn write(&self, found: &[Found<'_>], reply: &mut Reply<'_>) {
        let n_more = [self.with_dist, self.with_hash, self.with_coord];
        let n_more = n_more.iter().filter(|is_wanted| **is_wanted).count();
        reply.array(found.len());
        for one in found {
            if n_more > 0 {
                reply.array(1 + n_more);
            }
            write_item(reply, one.member);
            if self.with_dist {
                write_distance(reply, one.distance_m / self.unit_m);
            }
            if self.with_hash {
                reply.int(one.score as i64);
            }
            if self.with_coord {
                write_point(reply, one.point);
            }
        }
    }
}

/// The first `n_max` by distance; of equal ones, that which was found first. O(found) and a sort of
/// those.
fn sorted<'v>(found: &[Found<'v>], order: Order, n_max: usize) -> Vec<Found<'v>> {
    let compare = |a: &usize, b: &usize| {
        let ascending = found[*a].distance_m.total_cmp(&found[*b].distance_m);
        let by_distance = match order {
            Order::Ascending => ascending,
            Order::Descending => ascending.reverse(),
        };
        by_distance.then(a.cmp(b))
    };
    let mut places: Vec<usize> = (0..found.len()).collect();
    if n_max < places.len() {
        places.select_nth_unstable_by(n_max, compare);
        places.truncate(n_max);
    }
    places.sort_unstable_by(compare);
    places.into_iter().map(|at| found[at]).collect()
}

fn count(args: &mut Args<'_>) -> Result<usize> {
    match args.int()? {
        n if n > 0 => Ok(usize::try_from(n).unwrap_or(usize::MAX)),
        _ => Err(Error::Plain("ERR COUNT must be > 0")),
    }
}

fn answer(db: &View<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>, form: Form) -> Result<()> {
    let zset = db.zset(args.take()?)?;
    let grammar = Grammar {
        form,
        may_store: false,
    };
    let mut query = Query::parse(args, grammar, (zset, None))?;
    let found = query.find(zset.unwrap_or(ZsetRef::EMPTY));
    query.write(&found, reply);
    Ok(())
}

/// A search of the older kind, which may store what it finds.
fn answer_or_store(
    ctx: &mut WriteCtx<'_>,
    args: &mut Args<'_>,
    reply: &mut Reply<'_>,
    form: Form,
) -> Result<()> {
    let zset = ctx.db.zset(args.take()?)?;
    let grammar = Grammar {
        form,
        may_store: true,
    };
    let mut query = Query::parse(args, grammar, (zset, None))?;
    let found = query.find(zset.unwrap_or(ZsetRef::EMPTY));
    let Some(destination) = query.destination else {
        query.write(&found, reply);
        return Ok(());
    };
    let members = stored(&query, &found);
    keep(ctx, destination, &members, "georadiusstore", reply)
}

fn geosearchstore(
    ctx: &mut WriteCtx<'_>,
    args: &mut Args<'_>,
    reply: &mut Reply<'_>,
) -> Result<()> {
    let destination = args.take()?;
    let zset = ctx.db.zset(args.take()?)?;
    let grammar = Grammar {
        form: Form::Options,
        may_store: true,
    };
    let mut query = Query::parse(args, grammar, (zset, Some(destination)))?;
    let found = query.find(zset.unwrap_or(ZsetRef::EMPTY));
    let members = stored(&query, &found);
    keep(ctx, destination, &members, "geosearchstore", reply)
}

/// What a destination gets: copies, since it may be the source.
fn stored(query: &Query<'_>, found: &[Found<'_>]) -> Vec<(Vec<u8>, f64)> {
    let score = |one: &Found<'_>| match query.stores_distances {
        true => one.distance_m / query.unit_m,
        false => one.score,
    };
    found
        .iter()
        .map(|one| (one.member.to_vec(), score(one)))
        .collect()
}

fn keep(
    ctx: &mut WriteCtx<'_>,
    destination: &[u8],
    members: &[(Vec<u8>, f64)],
    event: &'static str,
    reply: &mut Reply<'_>,
) -> Result<()> {
    store(ctx, destination, members, event)?;
    ctx.effects.n_changes += members.len().saturating_sub(1) as u64;
    reply.count(members.len());
    Ok(())
}

fn georadius(ctx: &mut WriteCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    answer_or_store(ctx, args, reply, Form::Position)
}

fn georadius_ro(ctx: &mut ReadCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    answer(&ctx.db, args, reply, Form::Position)
}

fn georadiusbymember(
    ctx: &mut WriteCtx<'_>,
    args: &mut Args<'_>,
    reply: &mut Reply<'_>,
) -> Result<()> {
    answer_or_store(ctx, args, reply, Form::Member)
}

fn georadiusbymember_ro(
    ctx: &mut ReadCtx<'_>,
    args: &mut Args<'_>,
    reply: &mut Reply<'_>,
) -> Result<()> {
    answer(&ctx.db, args, reply, Form::Member)
}

fn geosearch(ctx: &mut ReadCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    answer(&ctx.db, args, reply, Form::Options)
}
