//! Client-side caching where a transcript does not reach: ids, bounds, and several threads.

use std::sync::atomic::{AtomicBool, Ordering};

use server::testing::{Group, Server};

fn call(group: &mut Group, place: usize, line: &str) -> String {
    let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
    String::from_utf8_lossy(&group.call(place, &words)).into_owned()
}

fn output(group: &mut Group, place: usize) -> String {
    String::from_utf8_lossy(&group.take_output(place)).into_owned()
}

fn id(group: &mut Group, place: usize) -> String {
    let reply = call(group, place, "CLIENT ID");
    reply.trim_start_matches(':').trim_end().to_owned()
}

#[test]
fn notices_go_to_the_session_they_are_redirected_to() {
    let server = Server::new(1, &[]);
    let mut group = server.group(0);
    let (reader, listener, writer) = (group.connect(), group.connect(), group.connect());
    let target = id(&mut group, listener);
    let line = format!("CLIENT TRACKING ON REDIRECT {target}");
    assert_eq!(call(&mut group, reader, &line), "+OK\r\n");
    assert_eq!(call(&mut group, reader, "CLIENT GETREDIR"), format!(":{target}\r\n"));
    let info = call(&mut group, reader, "CLIENT INFO");
    assert!(info.contains("flags=t ") && info.contains(&format!("redir={target} ")), "{info}");

    // In RESP2 a listener that is subscribed to nothing cannot be told.
    call(&mut group, reader, "GET k");
    call(&mut group, writer, "SET k 1");
    assert_eq!(output(&mut group, listener), "");
    call(&mut group, listener, "SUBSCRIBE __redis__:invalidate");
    call(&mut group, reader, "GET k");
    call(&mut group, writer, "SET k 2");
    let message = "*3\r\n$7\r\nmessage\r\n$20\r\n__redis__:invalidate\r\n";
    assert_eq!(output(&mut group, listener), format!("{message}*1\r\n$1\r\nk\r\n"));
    call(&mut group, writer, "FLUSHALL");
    assert_eq!(output(&mut group, listener), format!("{message}$-1\r\n"));
    assert_eq!(output(&mut group, reader), "");

    // In RESP3 it needs no subscription.
    let modern = group.connect();
    call(&mut group, modern, "HELLO 3");
    let line = format!("CLIENT TRACKING ON REDIRECT {}", id(&mut group, modern));
    call(&mut group, reader, &line);
    call(&mut group, reader, "GET k");
    call(&mut group, writer, "SET k 3");
    let push = ">2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\nk\r\n";
    assert_eq!(output(&mut group, modern), push);
}

#[test]
fn a_redirection_to_a_session_that_is_gone_is_reported() {
    let server = Server::new(1, &[]);
    let mut group = server.group(0);
    let (reader, listener, writer) = (group.connect(), group.connect(), group.connect());
    call(&mut group, reader, "HELLO 3");
    let target = id(&mut group, listener);
    call(&mut group, reader, &format!("CLIENT TRACKING ON REDIRECT {target}"));
    call(&mut group, reader, "GET k");
    group.disconnect(listener);
    call(&mut group, writer, "SET k 1");
    let told = format!(">2\r\n$21\r\ntracking-redir-broken\r\n:{target}\r\n");
    assert_eq!(output(&mut group, reader), told);
    assert!(call(&mut group, reader, "CLIENT TRACKINGINFO").contains("broken_redirect"));
    assert!(call(&mut group, reader, "CLIENT INFO").contains("flags=tR "));
}

fn figures(group: &mut Group, place: usize) -> Vec<String> {
    let info = call(group, place, "INFO");
    let lines = info.lines().filter(|line| line.starts_with("tracking_"));
    let numbers = lines.filter_map(|line| line.split(':').nth(1));
    numbers.map(str::to_owned).collect()
}

#[test]
fn the_table_keeps_to_its_bound_and_is_counted() {
    let server = Server::new(1, &[("tracking-table-max-keys", "10")]);
    let mut group = server.group(0);
    let (reader, other) = (group.connect(), group.connect());
    for place in [reader, other] {
        call(&mut group, place, "HELLO 3");
        call(&mut group, place, "CLIENT TRACKING ON");
    }
    let (mut n_told, mut last) = (0, String::new());
    for i in 0..100 {
        last = format!("k{i}");
        let told = call(&mut group, reader, &format!("GET {last}"));
        n_told += told.matches("invalidate").count();
    }
    assert_eq!(n_told, 90);
    assert_eq!(figures(&mut group, reader), ["2", "10", "10", "0"]);
    call(&mut group, other, &format!("GET {last}"));
    assert_eq!(figures(&mut group, reader), ["2", "10", "11", "0"]);
    call(&mut group, other, "CLIENT TRACKING OFF");
    call(&mut group, reader, "CLIENT TRACKING OFF");
    call(&mut group, reader, "CLIENT TRACKING ON BCAST PREFIX a PREFIX b");
    assert_eq!(figures(&mut group, reader), ["1", "0", "0", "2"]);
    group.disconnect(reader);
    assert_eq!(figures(&mut group, other), ["0", "0", "0", "0"]);
}

#[test]
fn a_key_that_is_evicted_or_served_to_a_waiter_is_told_of() {
    let server = Server::new(1, &[]);
    let mut group = server.group(0);
    let (reader, waiter, writer) = (group.connect(), group.connect(), group.connect());
    call(&mut group, reader, "HELLO 3");
    call(&mut group, reader, "CLIENT TRACKING ON");
    call(&mut group, reader, "LLEN to");
    call(&mut group, waiter, "BLMOVE from to LEFT LEFT 0");
    call(&mut group, writer, "RPUSH from x");
    assert_eq!(output(&mut group, reader), ">2\r\n$10\r\ninvalidate\r\n*1\r\n$2\r\nto\r\n");
    for line in [
        "SET k 1",
        "CONFIG SET maxmemory-policy allkeys-random",
        "CONFIG SET maxmemory 1",
    ] {
        call(&mut group, writer, line);
        call(&mut group, reader, "GET k");
    }
    call(&mut group, writer, "CONFIG SET maxmemory 0");
    assert_eq!(call(&mut group, writer, "PING"), "+PONG\r\n");
}

/// A reader that keeps a copy until it is told, while another thread writes.
#[test]
fn no_copy_outlives_its_notice() {
    const N_ROUNDS: usize = 200;
    const N_WRITES: usize = 50;
    let server = Server::new(2, &[]);
    let is_written = AtomicBool::new(true);
    let round = std::sync::Barrier::new(2);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut group = server.group(1);
            let place = group.connect();
            for i in 0..N_ROUNDS {
                round.wait();
                for j in 0..N_WRITES {
                    call(&mut group, place, &format!("SET k {i}:{j}"));
                }
                is_written.store(true, Ordering::Release);
                round.wait();
            }
        });
        let mut group = server.group(0);
        let place = group.connect();
        call(&mut group, place, "HELLO 3");
        call(&mut group, place, "CLIENT TRACKING ON");
        for i in 0..N_ROUNDS {
            is_written.store(false, Ordering::Release);
            round.wait();
            let mut copy: Option<String> = None;
            while !is_written.load(Ordering::Acquire) {
                look(&mut group, place, &mut copy);
            }
            round.wait();
            look(&mut group, place, &mut copy);
            let expected = format!("{i}:{}", N_WRITES - 1);
            assert!(copy.as_ref().is_none_or(|copy| *copy == expected), "{copy:?} {expected}");
        }
    });
}

/// Reads if there is no copy, and drops the copy if told to.
fn look(group: &mut Group, place: usize, copy: &mut Option<String>) {
    let got = match copy {
        Some(_) => {
            group.settle();
            output(group, place)
        }
        None => {
            let got = call(group, place, "GET k");
            *copy = got.lines().nth(1).map(str::to_owned);
            got
        }
    };
    if got.contains("invalidate") {
        *copy = None;
    }
}
