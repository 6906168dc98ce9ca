//! Publish and subscribe. Messages are RESP3 pushes; a RESP2 session gets them as arrays and may do
//! little else while it is subscribed.

use resp::reply::Reply;

use crate::command::traits::CHANNELS;
use crate::command::{Access, AdminCtx, Args, Channels, Command, Flag};
use crate::error::{Error, Result};
use crate::journal::unit::Unit;
use crate::pubsub::Topic;

const SUBSCRIBING: &[Flag] = &[Flag::Loading, Flag::NoScript, Flag::PubSub, Flag::Stale];

/// The commands of this family.
pub const COMMANDS: &[Command] = &[
    Command::admin("publish", 3, publish)
        .channels(Channels::One)
        .syntax("channel message")
        .fast()
        .flags(CHANNELS)
        .group("pubsub")
        .about("2.0.0", "O(N+M) in subscribers and patterns", "Sends a message to a channel."),
    Command::admin("subscribe", -2, subscribe)
        .channels(Channels::All)
        .syntax("channel ...")
        .flags(SUBSCRIBING)
        .for_subscribers()
        .group("pubsub")
        .about("2.0.0", "O(N) in the channels", "Listens to channels."),
    Command::admin("unsubscribe", -1, unsubscribe)
        .syntax("[channel ...]")
        .flags(SUBSCRIBING)
        .for_subscribers()
        .group("pubsub")
        .about("2.0.0", "O(N) in the channels", "Stops listening to channels."),
    Command::admin("psubscribe", -2, psubscribe)
        .channels(Channels::Patterns)
        .syntax("pattern ...")
        .flags(SUBSCRIBING)
        .for_subscribers()
        .group("pubsub")
        .about("2.0.0", "O(N) in the patterns", "Listens to channels whose name matches."),
    Command::admin("punsubscribe", -1, punsubscribe)
        .syntax("[pattern ...]")
        .flags(SUBSCRIBING)
        .for_subscribers()
        .group("pubsub")
        .about("2.0.0", "O(N) in the patterns", "Stops listening to patterns."),
    Command::admin("spublish", 3, spublish)
        .channels(Channels::One)
        .syntax("shardchannel message")
        .fast()
        .flags(CHANNELS)
        .key(1)
        .access(Access::Channel)
        .group("pubsub")
        .about("7.0.0", "O(N) in the subscribers", "Sends a message to a shard channel."),
    Command::admin("ssubscribe", -2, ssubscribe)
        .channels(Channels::All)
        .syntax("shardchannel ...")
        .keys(1, -1, 1)
        .access(Access::Channel)
        .flags(SUBSCRIBING)
        .for_subscribers()
        .group("pubsub")
        .about("7.0.0", "O(N) in the channels", "Listens to shard channels."),
    Command::admin("sunsubscribe", -1, sunsubscribe)
        .syntax("[shardchannel ...]")
        .keys(1, -1, 1)
        .access(Access::Channel)
        .flags(SUBSCRIBING)
        .for_subscribers()
        .group("pubsub")
        .about("7.0.0", "O(N) in the channels", "Stops listening to shard channels."),
    Command::container("pubsub", PUBSUB).group("pubsub").about(
        "2.8.0",
        "Depends on the subcommand",
        "Channels and their subscribers.",
    ),
];

const PUBSUB: &[Command] = &[
    Command::help("pubsub|help").since("6.2.0"),
    Command::admin("pubsub|channels", -2, channels)
        .syntax("[pattern]")
        .flags(CHANNELS)
        .group("pubsub")
        .about("2.8.0", "O(N) in the channels", "Lists channels that have subscribers."),
    Command::admin("pubsub|numpat", 2, numpat)
        .flags(CHANNELS)
        .group("pubsub")
        .about("2.8.0", "O(1)", "Counts patterns that have subscribers."),
    Command::admin("pubsub|shardchannels", -2, shard_channels)
        .syntax("[pattern]")
        .flags(CHANNELS)
        .group("pubsub")
        .about("7.0.0", "O(N) in the channels", "Lists shard channels that have subscribers."),
    Command::admin("pubsub|shardnumsub", -2, shard_numsub)
        .syntax("[shardchannel ...]")
        .flags(CHANNELS)
        .group("pubsub")
        .about("7.0.0", "O(N) in the channels", "Counts the subscribers of shard channels."),
    Command::admin("pubsub|numsub", -2, numsub)
        .syntax("[channel ...]")
        .flags(CHANNELS)
        .group("pubsub")
        .about("2.8.0", "O(N) in the channels", "Counts the subscribers of channels."),
];

fn publish(ctx: &mut AdminCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let (channel, message) = (args.take()?, args.take()?);
    let mailboxes = &ctx.state.mailboxes;
    reply.count(ctx.state.pubsub.publish(channel, message, mailboxes));
    tell_replicas(ctx, &[b"PUBLISH", channel, message]);
    Ok(())
}

/// Messages go to those who are subscribed at replicas, too: of EXEC or a script in their place in it.
fn tell_replicas(ctx: &mut AdminCtx<'_>, command: &[&[u8]]) {
    let journal = &ctx.state.journal;
    if !journal.backlog.is_led() {
        return;
    }
    let database = ctx.session.database;
    if ctx.is_nested {
        return ctx.unit.add_message(database, command);
    }
    journal.append_for_replicas(&Unit::of(database, command));
    ctx.session.streamed_to = journal.backlog.end();
}

fn spublish(ctx: &mut AdminCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let (channel, message) = (args.take()?, args.take()?);
    let mailboxes = &ctx.state.mailboxes;
    let pubsub = &ctx.state.pubsub;
    reply.count(pubsub.publish_in_shard(channel, message, mailboxes));
    tell_replicas(ctx, &[b"SPUBLISH", channel, message]);
    Ok(())
}

fn ssubscribe(ctx: &mut AdminCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    begin(ctx, args, reply, (Topic::Shard, b"ssubscribe"))
}

fn sunsubscribe(ctx: &mut AdminCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    end(ctx, args, reply, (Topic::Shard, b"sunsubscribe"))
}

fn confirm(reply: &mut Reply<'_>, word: &[u8], name: Option<&[u8]>, n: usize) {
    reply.push(3);
    reply.bulk(word);
    reply.bulk_or_null(name);
    reply.count(n);
}

/// Adds subscriptions and confirms each with the number of all.
fn begin(
    ctx: &mut AdminCtx<'_>,
    args: &mut Args<'_>,
    reply: &mut Reply<'_>,
    (topic, word): (Topic, &[u8]),
) -> Result<()> {
    let address = ctx.session.address();
    for name in args.rest() {
        let subscriptions = ctx.session.subscriptions.get_or_insert_default();
        if subscriptions.of(topic).insert(name.into()) {
            subscriptions.bytes += name.len();
            ctx.state.pubsub.subscribe(topic, name, address);
        }
        confirm(reply, word, Some(name), subscriptions.count(topic));
    }
    Ok(())
}

/// Ends the subscriptions named, or all of the kind, and confirms each.
fn end(
    ctx: &mut AdminCtx<'_>,
    args: &mut Args<'_>,
    reply: &mut Reply<'_>,
    (topic, word): (Topic, &[u8]),
) -> Result<()> {
    let address = ctx.session.address();
    let mut names: Vec<Box<[u8]>> = args.rest().map(Box::from).collect();
    let is_all = names.is_empty();
    let mut subscriptions = ctx.session.subscriptions.take().unwrap_or_default();
    if is_all {
        names = subscriptions.of(topic).iter().cloned().collect();
    }
    if names.is_empty() {
        confirm(reply, word, None, subscriptions.count(topic));
    }
    for name in &names {
        if subscriptions.of(topic).remove(name) {
            subscriptions.bytes -= name.len();
            ctx.state.pubsub.unsubscribe(topic, name, address);
        }
        confirm(reply, word, Some(name), subscriptions.count(topic));
    }
    ctx.session.subscriptions = (!subscriptions.is_empty()).then_some(subscriptions);
    Ok(())
}

fn subscribe(ctx: &mut AdminCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    begin(ctx, args, reply, (Topic::Channel, b"subscribe"))
}

fn psubscribe(ctx: &mut AdminCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    begin(ctx, args, reply, (Topic::Pattern, b"psubscribe"))
}

fn unsubscribe(ctx: &mut AdminCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    end(ctx, args, reply, (Topic::Channel, b"unsubscribe"))
}

fn punsubscribe(ctx: &mut AdminCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    end(ctx, args, reply, (Topic::Pattern, b"punsubscribe"))
}

fn channels(ctx: &mut AdminCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let pattern = args.rest().next();
    list(ctx, Topic::Channel, pattern, reply);
    Ok(())
}

fn shard_channels(
    ctx: &mut AdminCtx<'_>,
    args: &mut Args<'_>,
    reply: &mut Reply<'_>,
) -> Result<()> {
    let pattern = args.rest().next();
    list(ctx, Topic::Shard, pattern, reply);
    Ok(())
}

fn list(ctx: &AdminCtx<'_>, topic: Topic, pattern: Option<&[u8]>, reply: &mut Reply<'_>) {
    let channels = ctx.state.pubsub.channels(topic, pattern);
    reply.array(channels.len());
    channels.iter().for_each(|channel| reply.bulk(channel));
}

fn numpat(ctx: &mut AdminCtx<'_>, _: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    reply.count(ctx.state.pubsub.n_patterns());
    Ok(())
}

fn numsub(ctx: &mut AdminCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    count(ctx, Topic::Channel, args, reply)
}

fn shard_numsub(ctx: &mut AdminCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    count(ctx, Topic::Shard, args, reply)
}

fn count(
    ctx: &AdminCtx<'_>,
    topic: Topic,
    args: &mut Args<'_>,
    reply: &mut Reply<'_>,
) -> Result<()> {
    reply.array(2 * args.len());
    for channel in args.rest() {
        reply.bulk(channel);
        reply.count(ctx.state.pubsub.n_subscribers(topic, channel));
    }
    Ok(())
}

/// Why a subscribed RESP2 session may not run `command`.
pub fn refusal(command: &str) -> Error {
    Error::Owned(format!(
        "ERR Can't execute '{command}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET \
         are allowed in this context"
    ))
}
