//! What a replica and its primary say before the data comes, without any input or output.
//!
//! ```text
//!   PING                                +PONG, or an error that asks for a password
//!   AUTH [user] password                +OK                    if there is a password
//!   REPLCONF listening-port N           +OK or an error, which does not matter
//!   REPLCONF ip-address A               likewise               if it is announced
//!   REPLCONF capa eof capa psync2 capa rdb-redis version V
//!                                       likewise; V is a Valkey's, whose primaries choose the format by it, and
//!                                       rdb-redis tells a Minium that Redis's is read as well
//!   PSYNC replid offset                 +FULLRESYNC replid offset | +CONTINUE [replid] | an error
//!                                       | +RDBCHANNELSYNC id, if capa rdb-channel-repl was said, too
//!   then, on another connection:
//!   REPLCONF capa eof rdb-only 1 rdb-channel 1 main-ch-client-id id listening-port N
//!   PSYNC ? -1                          +FULLRESYNC replid offset
//! ```
//!
//! In Valkey's way, if capa dual-channel was said, who gets the stream asks only once the snapshot has begun:
//!
//! ```text
//!   PSYNC replid offset                 +DUALCHANNELSYNC
//!   on another connection:
//!   REPLCONF capa eof rdb-only 1 rdb-channel 1 ...
//!   SYNC                                $ENDOFF:offset replid database id
//!   on the first one, while the snapshot comes:
//!   REPLCONF set-rdb-client-id id       +OK
//!   PSYNC replid offset                 +CONTINUE
//! ```

/// What a replica says of itself.
#[derive(Clone, Debug, Default)]
pub struct Introduction {
    /// `masteruser` and `masterauth`; empty if there are none.
    pub login: (String, String),
    /// The port at which it listens.
    pub port: u16,
    /// The address at which it can be reached, if it is to be told.
    pub ip: Option<String>,
    /// The history that it has, and the first byte that it lacks, counted from 1.
    pub history: Option<(String, u64)>,
    /// It can get the snapshot through a connection of its own.
    pub takes_channel: bool,
    /// This is such a connection, for the one that the primary knows under this number.
    pub channel_of: Option<u64>,
    /// It can do so in Valkey's way.
    pub takes_dual: bool,
    /// This is such a connection in that way.
    pub is_dual: bool,
    /// The other side is to take over: FAILOVER.
    pub hands_over: bool,
}

/// What is to be done next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Send this command and wait for a line.
    Send(Vec<String>),
    /// A snapshot follows, then the stream from this offset on.
    Full {
        /// The history.
        replid: String,
        /// The offset of the snapshot.
        offset: u64,
    },
    /// The snapshot comes through another connection that names this number, and the stream through this one.
    Apart {
        /// The number.
        id: u64,
    },
    /// Likewise, in Valkey's way: the other connection tells where the snapshot stands.
    Dual,
    /// What it tells: the snapshot follows.
    Offered(Offered),
    /// The stream follows where it was left.
    Continue {
        /// The name that the history has now, if it has another one.
        replid: Option<String>,
    },
    /// It did not work, for this reason: to be tried again.
    Failed(String),
}

/// Where a snapshot stands that has a connection of its own, in Valkey's way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offered {
    /// The history.
    pub replid: String,
    /// The offset in it.
    pub offset: u64,
    /// The database of the stream from there on, unless the stream names it.
    pub database: Option<u16>,
    /// What the primary knows the connection under.
    pub id: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Said {
    Ping,
    Auth,
    Port,
    Ip,
    Capabilities,
    Psync,
    /// Where the snapshot comes that this connection brings the stream of.
    Channel,
}

/// See the top of the file.
#[derive(Debug)]
pub struct Handshake {
    about: Introduction,
    said: Said,
}

impl Handshake {
    /// Begins; the first command.
    pub fn begin(about: Introduction) -> (Handshake, Vec<String>) {
        let said = Said::Ping;
        (Handshake { about, said }, vec!["PING".to_owned()])
    }

    /// Whether PSYNC was said.
    pub fn has_asked(&self) -> bool {
        self.said == Said::Psync
    }

    /// What follows a line of the primary, which is without its end.
    pub fn hear(&mut self, line: &str) -> Step {
        let error = line.strip_prefix('-');
        match self.said {
            Said::Ping => {
                let asks = ["NOAUTH", "NOPERM", "ERR operation not permitted"];
                match error {
                    Some(error) if !asks.iter().any(|ask| error.starts_with(ask)) => {
                        Step::Failed(format!("Error reply to PING from master: '{line}'"))
                    }
                    _ if self.about.login.1.is_empty() => self.tell_port(),
                    _ => self.log_in(),
                }
            }
            Said::Auth if error.is_some() => {
                Step::Failed(format!("Unable to AUTH to MASTER: {line}"))
            }
            Said::Auth => self.tell_port(),
            Said::Port => match self.about.ip.clone() {
                Some(ip) => self.say(Said::Ip, &["REPLCONF", "ip-address", &ip]),
                None => self.tell_capabilities(),
            },
            Said::Ip => self.tell_capabilities(),
            Said::Capabilities if error.is_some() && self.about.channel_of.is_some() => {
                Step::Failed(format!("The primary knows the other connection no more: {line}"))
            }
            Said::Channel if error.is_some() => {
                Step::Failed(format!("The primary knows the other connection no more: {line}"))
            }
            Said::Capabilities if error.is_some() && self.about.is_dual => {
                Step::Failed(format!("The primary takes no other connection: {line}"))
            }
            Said::Capabilities | Said::Channel => self.ask(),
            Said::Psync if self.about.is_dual => offered(line),
            Said::Psync => match answered(line, self.about.history.is_some()) {
                Step::Dual if !self.about.takes_dual => {
                    Step::Failed(format!("Unexpected reply to PSYNC from master: {line}"))
                }
                step => step,
            },
        }
    }

    /// After [`Step::Dual`]: what to say once the snapshot has begun.
    pub fn join(&mut self, offered: &Offered) -> Vec<String> {
        self.said = Said::Channel;
        self.about.takes_dual = false; // it has begun
        self.about.hands_over = false;
        self.about.history = Some((offered.replid.clone(), offered.offset + 1));
        let id = offered.id.to_string();
        ["REPLCONF", "set-rdb-client-id", &id]
            .map(str::to_owned)
            .into()
    }

    fn say(&mut self, said: Said, words: &[&str]) -> Step {
        self.said = said;
        Step::Send(words.iter().map(|word| (*word).to_owned()).collect())
    }

    fn log_in(&mut self) -> Step {
        let (user, password) = self.about.login.clone();
        match user.is_empty() {
            true => self.say(Said::Auth, &["AUTH", &password]),
            false => self.say(Said::Auth, &["AUTH", &user, &password]),
        }
    }

    fn tell_port(&mut self) -> Step {
        let port = self.about.port.to_string();
        if let Some(id) = self.about.channel_of {
            let id = id.to_string();
            let words = [
                "REPLCONF",
                "capa",
                "eof",
                "rdb-only",
                "1",
                "rdb-channel",
                "1",
            ];
            let names = ["main-ch-client-id", &id, "listening-port", &port];
            return self.say(Said::Capabilities, &[&words[..], &names].concat());
        }
        if self.about.is_dual {
            return self.tell_dual(&port);
        }
        self.say(Said::Port, &["REPLCONF", "listening-port", &port])
    }

    fn tell_dual(&mut self, port: &str) -> Step {
        let what = "capa eof capa rdb-redis rdb-only 1 rdb-channel 1";
        let ip = self.about.ip.clone();
        let mut words = vec!["REPLCONF"];
        words.extend(what.split(' '));
        words.extend(["listening-port", port, "version", VALKEY_UNDERSTOOD]);
        words.extend(ip.iter().flat_map(|ip| ["ip-address", ip]));
        self.say(Said::Capabilities, &words)
    }

    fn tell_capabilities(&mut self) -> Step {
        let capabilities = ["eof", "psync2", "rdb-redis", "rdb-channel-repl"];
        let n = capabilities.len() - usize::from(!self.about.takes_channel);
        let named = capabilities[..n].iter().flat_map(|name| ["capa", name]);
        let mut words = vec!["REPLCONF"];
        words.extend(named);
        if self.about.takes_dual {
            words.extend(["capa", "dual-channel"]);
        }
        words.extend(["version", VALKEY_UNDERSTOOD]);
        self.say(Said::Capabilities, &words)
    }

    fn ask(&mut self) -> Step {
        if self.about.is_dual {
            return self.say(Said::Psync, &["SYNC"]);
        }
        match self.about.history.clone() {
            Some((replid, wanted)) if self.about.hands_over => {
                self.say(Said::Psync, &["PSYNC", &replid, &wanted.to_string(), "FAILOVER"])
            }
            Some((replid, wanted)) => {
                self.say(Said::Psync, &["PSYNC", &replid, &wanted.to_string()])
            }
            None => self.say(Said::Psync, &["PSYNC", "?", "-1"]),
        }
    }
}

/// The Valkey whose snapshots are read; to who says nothing it sends none that has deadlines of fields. A Redis
/// knows no such word, which comes last: what stands before has been heard.
const VALKEY_UNDERSTOOD: &str = "9.0.0";

/// The greatest offset: one that still counts in the replies of commands.
const OFFSET_MAX: u64 = i64::MAX as u64 / 2;

/// What the answer to SYNC means, in Valkey's way.
fn offered(line: &str) -> Step {
    let words = line.strip_prefix("$ENDOFF:").unwrap_or_default();
    let mut words = words.split_ascii_whitespace();
    let mut read = || {
        let offset = words.next()?.parse().ok()?;
        let replid = words.next().filter(|replid| is_replid(replid))?.to_owned();
        let database = words.next()?.parse::<i32>().ok()?;
        Some(Offered {
            replid,
            offset,
            database: u16::try_from(database).ok(),
            id: words.next()?.parse().ok()?,
        })
    };
    match read() {
        Some(offered) if offered.offset <= OFFSET_MAX => Step::Offered(offered),
        _ => Step::Failed(format!("Unexpected reply to SYNC from master: {line}")),
    }
}

fn is_replid(word: &str) -> bool {
    word.len() == 40 && word.is_ascii()
}

/// What the answer to PSYNC means.
fn answered(line: &str, has_history: bool) -> Step {
    let mut words = line.split_ascii_whitespace();
    let is_name = |replid: &&str| is_replid(replid);
    let wrong = || Step::Failed(format!("Unexpected reply to PSYNC from master: {line}"));
    match words.next() {
        Some("+FULLRESYNC") => {
            let replid = words.next().filter(is_name);
            let offset = words.next().and_then(|offset| offset.parse().ok());
            let offset = offset.filter(|offset| *offset <= OFFSET_MAX);
            match (replid, offset) {
                (Some(replid), Some(offset)) => Step::Full {
                    replid: replid.to_owned(),
                    offset,
                },
                _ => wrong(),
            }
        }
        Some("+RDBCHANNELSYNC") => match words.next().and_then(|id| id.parse().ok()) {
            Some(id) => Step::Apart { id },
            None => wrong(),
        },
        Some("+DUALCHANNELSYNC") => Step::Dual,
        Some("+CONTINUE") if has_history => Step::Continue {
            replid: words.next().filter(is_name).map(str::to_owned),
        },
        Some("-NOMASTERLINK" | "-LOADING") => Step::Failed(format!(
            "MASTER is currently unable to PSYNC but should be in the future: {line}"
        )),
        _ => wrong(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every step of a handshake with a primary that answers so.
    fn talk(about: Introduction, answers: &[&str]) -> (Vec<String>, Step) {
        let (mut handshake, first) = Handshake::begin(about);
        let mut said = vec![first.join(" ")];
        for answer in answers {
            match handshake.hear(answer) {
                Step::Send(words) => said.push(words.join(" ")),
                other => return (said, other),
            }
        }
        panic!("the handshake goes on: {said:?}")
    }

    #[test]
    fn a_new_replica_asks_for_everything() {
        let about = Introduction {
            port: 7000,
            ..Introduction::default()
        };
        let id = "a".repeat(40);
        let full = format!("+FULLRESYNC {id} 77");
        let (said, end) = talk(about, &["+PONG", "+OK", "-ERR unknown", &full]);
        let expected = [
            "PING",
            "REPLCONF listening-port 7000",
            "REPLCONF capa eof capa psync2 capa rdb-redis version 9.0.0",
            "PSYNC ? -1",
        ];
        assert_eq!(said, expected);
        assert_eq!(
            end,
            Step::Full {
                replid: id,
                offset: 77
            }
        );
    }

    #[test]
    fn one_that_was_there_before_logs_in_and_goes_on() {
        let about = Introduction {
            login: ("replica".into(), "secret".into()),
            port: 1,
            ip: Some("10.0.0.1".into()),
            history: Some(("b".repeat(40), 101)),
            hands_over: true,
            ..Introduction::default()
        };
        let answers = [
            "-NOAUTH Authentication required.",
            "+OK",
            "+OK",
            "+OK",
            "+OK",
            "+CONTINUE",
        ];
        let (said, end) = talk(about, &answers);
        assert_eq!(said[1], "AUTH replica secret");
        assert_eq!(said[3], "REPLCONF ip-address 10.0.0.1");
        assert_eq!(said[5], format!("PSYNC {} 101 FAILOVER", "b".repeat(40)));
        assert_eq!(end, Step::Continue { replid: None });
    }

    #[test]
    fn a_snapshot_may_come_through_another_connection() {
        let about = Introduction {
            port: 7000,
            takes_channel: true,
            ..Introduction::default()
        };
        let (said, end) = talk(about.clone(), &["+PONG", "+OK", "+OK", "+RDBCHANNELSYNC 8"]);
        let all = "capa eof capa psync2 capa rdb-redis capa rdb-channel-repl version 9.0.0";
        assert_eq!(said[2], format!("REPLCONF {all}"));
        assert_eq!(end, Step::Apart { id: 8 });
        let other = Introduction {
            channel_of: Some(8),
            login: (String::new(), "secret".into()),
            ..about
        };
        let full = format!("+FULLRESYNC {} 0", "a".repeat(40));
        let (said, end) = talk(other.clone(), &["+PONG", "+OK", "+OK", &full]);
        let expected = [
            "PING",
            "AUTH secret",
            "REPLCONF capa eof rdb-only 1 rdb-channel 1 main-ch-client-id 8 listening-port 7000",
            "PSYNC ? -1",
        ];
        assert_eq!(said, expected);
        assert!(matches!(end, Step::Full { offset: 0, .. }));
        let gone = "-ERR Unrecognized RDB client id: 8";
        let (said, end) = talk(other, &["+PONG", "+OK", gone]);
        assert_eq!(said.len(), 3);
        assert!(matches!(end, Step::Failed(_)), "{end:?}");
    }

    #[test]
    fn a_snapshot_may_come_through_another_connection_in_valkeys_way() {
        let about = Introduction {
            port: 7000,
            takes_dual: true,
            ..Introduction::default()
        };
        let (mut main, _) = Handshake::begin(about.clone());
        let said: Vec<Step> = ["+PONG", "+OK", "+OK", "+DUALCHANNELSYNC"]
            .map(|line| main.hear(line))
            .into();
        let all = "REPLCONF capa eof capa psync2 capa rdb-redis capa dual-channel version 9.0.0";
        let words = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<String>>();
        assert_eq!(
            said[1..],
            [
                Step::Send(words(all)),
                Step::Send(words("PSYNC ? -1")),
                Step::Dual
            ]
        );
        let other = Introduction {
            is_dual: true,
            ip: Some("10.0.0.1".into()),
            ..about
        };
        let id = "a".repeat(40);
        let begun = format!("$ENDOFF:7 {id} -1 12");
        let (said, end) = talk(other.clone(), &["+PONG", "+OK", &begun]);
        let expected = [
            "PING",
            "REPLCONF capa eof capa rdb-redis rdb-only 1 rdb-channel 1 listening-port 7000 version \
             9.0.0 ip-address 10.0.0.1",
            "SYNC",
        ];
        assert_eq!(said, expected);
        let Step::Offered(offered) = end else {
            panic!("{end:?}");
        };
        assert_eq!((offered.offset, offered.database, offered.id), (7, None, 12));
        assert_eq!(main.join(&offered).join(" "), "REPLCONF set-rdb-client-id 12");
        assert_eq!(main.hear("+OK"), Step::Send(words(&format!("PSYNC {id} 8"))));
        assert_eq!(main.hear("+CONTINUE"), Step::Continue { replid: None });
        main.join(&offered);
        assert!(matches!(main.hear("-ERR Unrecognized RDB client id 12"), Step::Failed(_)));
        for wrong in [
            "$ENDOFF:7 short -1 12",
            "$ENDOFF:-1 a -1 12",
            "$ENDOFF:7",
            "$5",
            "-ERR no",
        ] {
            let (_, end) = talk(other.clone(), &["+PONG", "+OK", wrong]);
            assert!(matches!(end, Step::Failed(_)), "{wrong}: {end:?}");
        }
        let (_, end) = talk(Introduction::default(), &["+PONG", "+OK", "+OK", "+DUALCHANNELSYNC"]);
        assert!(matches!(end, Step::Failed(_)), "nobody has said that it can: {end:?}");
    }

    #[test]
    fn what_is_no_answer_ends_it() {
        for answers in [
            &["-LOADING Redis is loading"][..],
            &["+PONG", "+OK", "+OK", "-NOMASTERLINK no"],
            &["+PONG", "+OK", "+OK", "+FULLRESYNC short 1"],
            &["+PONG", "+OK", "+OK", "+FULLRESYNC"],
            &["+PONG", "+OK", "+OK", "+RDBCHANNELSYNC"],
            &["+PONG", "+OK", "+OK", "+RDBCHANNELSYNC -1"],
            &["+PONG", "+OK", "+OK", "$5"],
        ] {
            let (_, end) = talk(Introduction::default(), answers);
            assert!(matches!(end, Step::Failed(_)), "{answers:?}: {end:?}");
        }
    }
}
