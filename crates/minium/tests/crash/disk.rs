//! What a disk would hold had the power failed: worked out from the record that `disk.c` writes.
//!
//! ```text
//!   record   create temp-x │ write │ sync │ rename temp-x x │ sync folder │ write ...
//!                          └───────────── the power fails after any of these
//!   disk     per file: synced bytes, and what was done since
//!            names: those of synced folders, and what was done to them since
//! ```
//!
//! The rules are those of POSIX, not of one file system: a name is on the disk when its folder was
//! synced, bytes are when the file was, and of the rest any part may be there: each change of a name
//! for itself, of the bytes of a file what came first. A sync that failed leaves a hole for ever,
//! whatever later ones say.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::Path;

/// A call that the server has made.
#[derive(Clone, Debug)]
pub enum Call {
    Opened {
        path: String,
        node: u64,
    },
    Created {
        path: String,
        node: u64,
    },
    Written {
        node: u64,
        offset: u64,
        bytes: Vec<u8>,
    },
    Cut {
        node: u64,
        n_bytes: u64,
    },
    /// `since`: calls that were over when this one began.
    Synced {
        path: String,
        node: u64,
        since: usize,
        is_ok: bool,
    },
    Renamed {
        from: String,
        to: String,
    },
    Removed {
        path: String,
    },
    FolderMade {
        path: String,
    },
}

/// A call and when it was over, by the monotonic clock.
#[derive(Clone, Debug)]
pub struct Entry {
    pub at_ns: u64,
    pub call: Call,
}

/// The bytes of a header in the record.
const HEADER_BYTES: usize = 48;
const MAGIC: u32 = 0x6b73_6964;

/// Reads a record; paths come back relative to the root. The last entry may be torn.
pub fn read_record(path: &Path, root: &Path) -> Vec<Entry> {
    let bytes = fs::read(path).unwrap_or_default();
    let root = fs::canonicalize(root).unwrap();
    let root = root.to_str().unwrap();
    let (mut rest, mut entries, mut n_before) = (&bytes[..], Vec::new(), 0);
    while rest.len() >= HEADER_BYTES {
        let small = |at: usize| u32::from_le_bytes(rest[at..at + 4].try_into().unwrap());
        let large = |at: usize| u64::from_le_bytes(rest[at..at + 8].try_into().unwrap());
        assert_eq!(small(0), MAGIC, "the record is broken");
        let (kind, at_ns, node) = (small(4), large(8), large(16));
        let (offset, since) = (large(24), large(32) as usize);
        let (n_first, n_second) = (small(40) as usize, small(44) as usize);
        let end = HEADER_BYTES + n_first + n_second;
        if rest.len() < end {
            break;
        }
        let (first, second) = rest[HEADER_BYTES..end].split_at(n_first);
        let relative = |path: &[u8]| {
            let path = std::str::from_utf8(path).unwrap();
            let path = path.strip_prefix(root).expect("it lies below the root");
            path.trim_start_matches('/').to_owned()
        };
        let path = || relative(first);
        if kind == 10 {
            n_before = entries.len(); // another process goes on
            rest = &rest[end..];
            continue;
        }
        let since = n_before + since;
        let call = match kind {
            1 => Call::Opened { path: path(), node },
            2 => Call::Created { path: path(), node },
            3 => Call::Written {
                node,
                offset,
                bytes: second.to_vec(),
            },
            4 => Call::Cut {
                node,
                n_bytes: offset,
            },
            5 | 6 => Call::Synced {
                path: path(),
                node,
                since,
                is_ok: kind == 5,
            },
            7 => Call::Renamed {
                from: path(),
                to: relative(second),
            },
            8 => Call::Removed { path: path() },
            9 => Call::FolderMade { path: path() },
            _ => panic!("a record of an unknown kind: {kind}"),
        };
        entries.push(Entry { at_ns, call });
        rest = &rest[end..];
    }
    entries
}

/// Files and folders (without content) by path.
pub type Tree = BTreeMap<String, Option<Vec<u8>>>;

/// What stands in a folder.
pub fn tree_of(root: &Path) -> Tree {
    fn visit(folder: &Path, prefix: &str, tree: &mut Tree) {
        for entry in fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            let path = format!("{prefix}{}", entry.file_name().to_str().unwrap());
            match entry.file_type().unwrap().is_dir() {
                true => {
                    visit(&entry.path(), &format!("{path}/"), tree);
                    tree.insert(path, None);
                }
                false => drop(tree.insert(path, Some(fs::read(entry.path()).unwrap()))),
            }
        }
    }
    let mut tree = Tree::new();
    visit(root, "", &mut tree);
    tree
}

/// Writes a tree into an empty folder.
pub fn write_tree(tree: &Tree, root: &Path) {
    let _ = fs::remove_dir_all(root);
    fs::create_dir_all(root).unwrap();
    for (path, content) in tree {
        match content {
            None => fs::create_dir_all(root.join(path)).unwrap(),
            Some(bytes) => fs::write(root.join(path), bytes).unwrap(),
        }
    }
}

/// What of that which was not synced is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// Nothing: the process died, the system did not.
    Nothing,
    /// All of it.
    Everything,
    /// Some of it, by chance.
    Some(u64),
}

/// A generator of chances, the same for the same seed.
pub struct Chance(pub u64);

impl Chance {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n.max(1)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Target {
    File(usize),
    Folder,
}

#[derive(Clone, Debug)]
enum Change {
    Write(u64, Vec<u8>),
    Cut(u64),
}

#[derive(Default)]
struct Node {
    live: Vec<u8>,
    durable: Vec<u8>,
    pending: Vec<(usize, Change)>,
}

/// A change of names that is there or not as a whole; on the disk when all its folders were synced.
struct Naming {
    index: usize,
    folders: Vec<String>,
    steps: Vec<(String, Option<Target>)>,
}

/// See the top of the file.
#[derive(Default)]
pub struct Disk {
    nodes: Vec<Node>,
    by_number: HashMap<u64, usize>,
    live: BTreeMap<String, Target>,
    durable: BTreeMap<String, Target>,
    pending: Vec<Naming>,
    n_entries: usize,
}

fn folder_of(path: &str) -> String {
    path.rsplit_once('/')
        .map_or(String::new(), |(folder, _)| folder.to_owned())
}

fn change(bytes: &mut Vec<u8>, change: &Change) {
    match change {
        Change::Cut(n_bytes) => bytes.resize(*n_bytes as usize, 0),
        Change::Write(offset, new) => {
            let (start, end) = (*offset as usize, *offset as usize + new.len());
            bytes.resize(bytes.len().max(end), 0);
            bytes[start..end].copy_from_slice(new);
        }
    }
}

fn name(names: &mut BTreeMap<String, Target>, steps: &[(String, Option<Target>)]) {
    for (path, target) in steps {
        match target {
            Some(target) => drop(names.insert(path.clone(), *target)),
            None => drop(names.remove(path)),
        }
    }
}

impl Disk {
    /// One that holds this.
    pub fn of(tree: &Tree) -> Disk {
        let mut disk = Disk::default();
        for (path, content) in tree {
            let target = match content {
                None => Target::Folder,
                Some(bytes) => {
                    disk.nodes.push(Node {
                        live: bytes.clone(),
                        durable: bytes.clone(),
                        pending: Vec::new(),
                    });
                    Target::File(disk.nodes.len() - 1)
                }
            };
            disk.live.insert(path.clone(), target);
        }
        disk.durable = disk.live.clone();
        disk
    }

    /// Takes the next call of the record; a sync only if it `counts`.
    pub fn take(&mut self, entry: &Entry, counts: bool) {
        let index = self.n_entries;
        self.n_entries += 1;
        match &entry.call {
            Call::Opened { path, node } => {
                if let Some(Target::File(file)) = self.live.get(path) {
                    self.by_number.insert(*node, *file);
                }
            }
            Call::Created { path, node } => {
                self.nodes.push(Node::default());
                let file = self.nodes.len() - 1;
                self.by_number.insert(*node, file);
                self.rename(index, vec![(path.clone(), Some(Target::File(file)))]);
            }
            Call::Written {
                node,
                offset,
                bytes,
            } => {
                self.change(index, *node, Change::Write(*offset, bytes.clone()));
            }
            Call::Cut { node, n_bytes } => self.change(index, *node, Change::Cut(*n_bytes)),
            Call::Renamed { from, to } => {
                let target = self.live.get(from).copied();
                self.rename(index, vec![(from.clone(), None), (to.clone(), target)]);
            }
            Call::Removed { path } => self.rename(index, vec![(path.clone(), None)]),
            Call::FolderMade { path } => {
                self.rename(index, vec![(path.clone(), Some(Target::Folder))]);
            }
            Call::Synced { is_ok: true, .. } if !counts => {}
            Call::Synced {
                path,
                node,
                since,
                is_ok,
            } => {
                let is_folder = path.is_empty() || self.live.get(path) == Some(&Target::Folder);
                match is_folder {
                    true if *is_ok => self.sync_folder(path, *since),
                    true => {}
                    false => self.sync_file(*node, *since, *is_ok),
                }
            }
        }
    }

    fn change(&mut self, index: usize, node: u64, what: Change) {
        let node = &mut self.nodes[self.by_number[&node]];
        change(&mut node.live, &what);
        node.pending.push((index, what));
    }

    fn rename(&mut self, index: usize, steps: Vec<(String, Option<Target>)>) {
        name(&mut self.live, &steps);
        let mut folders: Vec<String> = steps.iter().map(|(path, _)| folder_of(path)).collect();
        folders.dedup();
        self.pending.push(Naming {
            index,
            folders,
            steps,
        });
    }

    fn sync_file(&mut self, node: u64, since: usize, is_ok: bool) {
        let Some(file) = self.by_number.get(&node) else {
            return;
        };
        let node = &mut self.nodes[*file];
        let n_done = node.pending.partition_point(|(index, _)| *index < since);
        for (_, what) in node.pending.drain(..n_done) {
            if is_ok {
                change(&mut node.durable, &what);
            }
        }
    }

    fn sync_folder(&mut self, folder: &str, since: usize) {
        for naming in &mut self.pending {
            if naming.index < since {
                naming.folders.retain(|one| one != folder);
            }
        }
        let durable = &mut self.durable;
        self.pending.retain(|naming| {
            if naming.folders.is_empty() {
                name(durable, &naming.steps);
            }
            !naming.folders.is_empty()
        });
    }

    /// What is left of it after a failure of the power, or of the process.
    pub fn after(&self, loss: Loss) -> Tree {
        let mut chance = Chance(match loss {
            Loss::Some(seed) => seed,
            Loss::Nothing | Loss::Everything => 0,
        });
        let names = match loss {
            Loss::Nothing => self.live.clone(),
            Loss::Everything => self.durable.clone(),
            Loss::Some(_) => {
                let mut names = self.durable.clone();
                for naming in &self.pending {
                    if chance.below(2) == 0 {
                        name(&mut names, &naming.steps);
                    }
                }
                names
            }
        };
        let mut contents = self.nodes.iter().map(|node| node.after(loss, &mut chance));
        let contents: Vec<Vec<u8>> = contents.by_ref().collect();
        let is_there = |path: &str| {
            let folder = folder_of(path);
            folder.is_empty() || names.get(&folder) == Some(&Target::Folder)
        };
        let all = names.iter().filter(|(path, _)| is_there(path));
        all.map(|(path, target)| {
            let content = match target {
                Target::Folder => None,
                Target::File(file) => Some(contents[*file].clone()),
            };
            (path.clone(), content)
        })
        .collect()
    }
}

impl Node {
    fn after(&self, loss: Loss, chance: &mut Chance) -> Vec<u8> {
        match loss {
            Loss::Nothing => self.live.clone(),
            Loss::Everything => self.durable.clone(),
            Loss::Some(_) => {
                let mut bytes = self.durable.clone();
                let n_kept = chance.below(self.pending.len() as u64 + 1) as usize;
                for (_, what) in &self.pending[..n_kept] {
                    change(&mut bytes, what);
                }
                if let Some((_, Change::Write(offset, new))) = self.pending.get(n_kept) {
                    let n_bytes = chance.below(new.len() as u64) as usize;
                    change(&mut bytes, &Change::Write(*offset, new[..n_bytes].to_vec()));
                }
                bytes
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(call: Call) -> Entry {
        Entry { at_ns: 0, call }
    }

    fn calls() -> Vec<Entry> {
        let path = |text: &str| text.to_owned();
        let synced = |of: &str, node, since| Call::Synced {
            path: path(of),
            node,
            since,
            is_ok: true,
        };
        [
            Call::Created {
                path: path("t"),
                node: 1,
            },
            Call::Written {
                node: 1,
                offset: 0,
                bytes: b"new".to_vec(),
            },
            synced("t", 1, 2),
            Call::Renamed {
                from: path("t"),
                to: path("x"),
            },
            synced("", 9, 4),
        ]
        .map(entry)
        .to_vec()
    }

    fn after(calls: &[Entry], skipped: Option<usize>, loss: Loss) -> Tree {
        let mut disk = Disk::of(&Tree::from([("x".to_owned(), Some(b"old".to_vec()))]));
        for (at, entry) in calls.iter().enumerate() {
            disk.take(entry, skipped != Some(at));
        }
        disk.after(loss)
    }

    #[test]
    fn a_file_is_replaced_when_it_and_its_folder_were_synced() {
        let new = Some(b"new".to_vec());
        let calls = calls();
        for loss in [Loss::Nothing, Loss::Everything, Loss::Some(1)] {
            assert_eq!(after(&calls, None, loss).get("x"), Some(&new));
        }
        let old = Some(b"old".to_vec());
        assert_eq!(after(&calls[..4], None, Loss::Everything).get("x"), Some(&old));
        assert_eq!(after(&calls, Some(4), Loss::Everything).get("x"), Some(&old));
        assert_eq!(after(&calls, Some(2), Loss::Everything).get("x"), Some(&Some(Vec::new())));
        assert_eq!(after(&calls, Some(2), Loss::Nothing).get("x"), Some(&new));
    }
}
