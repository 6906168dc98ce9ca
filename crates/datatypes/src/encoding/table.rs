//! The hash table of the keyspace and of every big hash, set and sorted set: linear hashing in
//! buckets of one cache line.
//!
//! It grows and shrinks *one bucket at a time*: there is no rehash, so no pause and no moment with
//! two tables. A bucket holds seven records; when more belong to it, the seventh slot points to an
//! overflow bucket. Splits are steered by memory: a bucket is added as soon as the whole table,
//! overflow and slack included, would still cost at most [`BYTES_PER_RECORD_MAX`] per record.
//!
//! ```text
//!   bucket, 64 bytes              slot, 8 bytes
//!   ┌──────────────┬──────┐        63         49  48  47              0
//!   │ 7 tag bytes  │ meta │       ┌─────────────┬────┬─────────────────┐
//!   ├──────────────┴──────┤       │ hash bits   │flag│ record address  │
//!   │ slot 0 .. slot 6    │       └─────────────┴────┴─────────────────┘
//!   └─────────────────────┘       meta: bits 0-6 slot in use, bit 7 slot 6 is the overflow bucket
//! ```
//!
//! The tag (the hash's top byte) and 15 low bits of the hash are compared before a record is
//! touched, and decide most splits without touching it. Buckets live in segments that never move:
//! a [`Directory`] finds segment k without following a pointer that could be freed, which is what
//! lets the engine prefetch a bucket without holding a lock.
//!
//! Linear hashing: W. Litwin, "Linear hashing: a new tool for file and table addressing", 1980.

#![allow(unsafe_code)]

use foldhash::SharedSeed;
use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::hash::Hasher;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::ops::Deref;
use std::ptr::NonNull;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering::Relaxed};

/// What the table may cost per record before it stops growing, in bytes.
pub const BYTES_PER_RECORD_MAX: usize = 13;
/// What the table may cost per record before it starts shrinking, in bytes.
const BYTES_PER_RECORD_SHRINK: usize = 32;

const SLOTS: usize = 7;
const CHAINED: u64 = 1 << 63;
const TAGS: u64 = 0x00ff_ffff_ffff_ffff;
const ADDRESS: u64 = (1 << 48) - 1;
const FLAG: u64 = 1 << 48;
const HASH_SHIFT: u32 = 49;
const HASH_BITS: u32 = 15;
/// Buckets that a sample looks into at most: nearly all may be empty after deletions.
const SAMPLED_BUCKETS_MAX: usize = 64;
/// Segments in a directory: 5 of 16 buckets in all, then four for every doubling, up to 2^27 buckets.
const SEGMENTS: usize = 97;

/// The hash of `key` that every table uses; seeded once per process. About 5 ns for 16 bytes.
#[inline]
pub fn hash(key: &[u8]) -> u64 {
    let (seed, shared) = SEED.get_or_init(|| {
        use std::hash::{BuildHasher, RandomState};
        let random = RandomState::new();
        seeds(random.hash_one(0x006d_696e_6975_6d00_u64), random.hash_one(1))
    });
    let mut hasher = foldhash::quality::FoldHasher::with_seed(*seed, shared);
    hasher.write(key);
    hasher.finish()
}

static SEED: OnceLock<(u64, SharedSeed)> = OnceLock::new();

fn seeds(own: u64, shared: u64) -> (u64, SharedSeed) {
    (own, SharedSeed::from_u64(shared))
}

/// Has every table order its records as any other process does that was given this seed. False if a
/// hash was computed already.
pub fn set_hash_seed(seed: &[u8]) -> bool {
    let part = |part: u64| {
        let fixed = SharedSeed::global_fixed();
        let mut hasher = foldhash::quality::FoldHasher::with_seed(part, fixed);
        hasher.write(seed);
        hasher.finish()
    };
    SEED.set(seeds(part(0), part(1))).is_ok()
}

/// An owned record that a table points to: a thin pointer to a block that knows its own key.
///
/// # Safety
/// `into_raw` gives an address below 2^48 that stays valid, with the key unchanged, until
/// `from_raw` takes it back.
pub unsafe trait Record: Sized {
    /// Gives up ownership.
    fn into_raw(self) -> NonNull<u8>;
    /// Takes ownership back.
    ///
    /// # Safety
    /// `raw` comes from `into_raw`, and nobody else takes it back.
    unsafe fn from_raw(raw: NonNull<u8>) -> Self;
    /// The bytes that the record is found by.
    fn key(&self) -> &[u8];
}

/// A record that stays in its table.
pub struct Ref<'a, R: Record> {
    record: ManuallyDrop<R>,
    /// The flag kept beside the record's address.
    pub flag: bool,
    table: PhantomData<&'a R>,
}

impl<R: Record> Deref for Ref<'_, R> {
    type Target = R;
    fn deref(&self) -> &R {
        &self.record
    }
}

#[repr(C, align(64))]
struct Bucket {
    head: u64,
    slots: [u64; SLOTS],
}

const _: () = assert!(size_of::<Bucket>() == 64);

impl Bucket {
    /// Asks the processor for the record that has the tag of `hash`; else for the next bucket, and is false.
    #[inline]
    fn prefetch_record(&self, hash: u64) -> bool {
        let found = self.matches(tag_of(hash));
        if found != 0 {
            let slot = found.trailing_zeros() as usize / 8;
            let record = (self.slots[slot] & ADDRESS) as *const u8;
            prefetch(record);
            prefetch(record.wrapping_add(64)); // most values of some length reach there
            return true;
        }
        match self.overflow() {
            Some(next) => {
                prefetch(next.as_ptr().cast());
                false
            }
            None => true,
        }
    }

    /// A bit at 8·i for every slot i whose tag is `tag`, seen through eight-byte arithmetic.
    #[inline]
    fn matches(&self, tag: u8) -> u64 {
        let same = (self.head ^ (u64::from(tag) * 0x0001_0101_0101_0101)) & TAGS;
        let low = 0x007f_7f7f_7f7f_7f7f;
        let zero_bytes = !(((same & low) + low) | same | low);
        (zero_bytes >> 7) & self.used()
    }

    /// A bit at 8·i for every slot i in use.
    #[inline]
    fn used(&self) -> u64 {
        let occupied = (self.head >> 56) & 0x7f;
        occupied.wrapping_mul(0x0002_0408_1020_4081) & 0x0001_0101_0101_0101
    }

    #[inline]
    fn overflow(&self) -> Option<NonNull<Bucket>> {
        if self.head & CHAINED == 0 {
            return None;
        }
        NonNull::new(self.slots[SLOTS - 1] as *mut Bucket)
    }

    /// The slots that may hold records and are free, lowest first.
    #[inline]
    fn free_slot(&self) -> Option<usize> {
        let meta = (self.head >> 56) as u8; // a chained bucket's bit 7 stands for its slot 6
        let taken = (meta & 0x7f) | ((meta >> 1) & 0x40);
        let slot = (!taken).trailing_zeros() as usize;
        (slot < SLOTS).then_some(slot)
    }

    fn put(&mut self, slot: usize, tag: u8, word: u64) {
        self.head &= !(0xff << (8 * slot));
        self.head |= (u64::from(tag) << (8 * slot)) | (1 << (56 + slot));
        self.slots[slot] = word;
    }

    fn clear(&mut self, slot: usize) {
        self.head &= !(1 << (56 + slot));
    }

    fn tag(&self, slot: usize) -> u8 {
        (self.head >> (8 * slot)) as u8
    }

    fn count(&self) -> u32 {
        ((self.head >> 56) & 0x7f).count_ones()
    }
}

/// Where segment k is. Segments are added and removed at the end only.
pub trait Directory {
    /// A directory without segments.
    const NEW: Self;
    /// The address of segment `idx`, which exists.
    fn get(&self, idx: usize) -> *mut u8;
    /// Adds a segment.
    fn push(&mut self, idx: usize, segment: *mut u8);
    /// Forgets the last segment.
    fn pop(&mut self, idx: usize);
    /// Bytes allocated for the directory itself.
    fn allocated_bytes(&self) -> usize;
}

/// A directory that grows with its table; for collections.
#[derive(Debug)]
pub struct Grown(Vec<*mut u8>);

impl Directory for Grown {
    const NEW: Grown = Grown(Vec::new());
    #[inline]
    fn get(&self, idx: usize) -> *mut u8 {
        self.0[idx]
    }
    fn push(&mut self, idx: usize, segment: *mut u8) {
        debug_assert_eq!(idx, self.0.len());
        if self.0.len() == self.0.capacity() {
            self.0.reserve_exact(4);
        }
        self.0.push(segment);
    }
    fn pop(&mut self, _idx: usize) {
        self.0.pop();
    }
    fn allocated_bytes(&self) -> usize {
        self.0.capacity() * size_of::<*mut u8>()
    }
}

/// A directory in the table's own memory, which other threads may read while it changes; for
/// shards, so that a bucket can be prefetched without the lock.
#[derive(Debug)]
pub struct Inline([AtomicPtr<u8>; SEGMENTS]);

impl Directory for Inline {
    const NEW: Inline = Inline([const { AtomicPtr::new(std::ptr::null_mut()) }; SEGMENTS]);
    #[inline]
    fn get(&self, idx: usize) -> *mut u8 {
        self.0[idx].load(Relaxed)
    }
    fn push(&mut self, idx: usize, segment: *mut u8) {
        self.0[idx].store(segment, Relaxed);
    }
    fn pop(&mut self, idx: usize) {
        self.0[idx].store(std::ptr::null_mut(), Relaxed);
    }
    fn allocated_bytes(&self) -> usize {
        0
    }
}

/// The segment of bucket `bucket` and its place in it.
#[inline]
fn locate(bucket: usize) -> (usize, usize) {
    if bucket < 16 {
        let level = (2 * bucket + 1).ilog2() as usize; // as many as its bits
        return (level, bucket ^ ((1 << level) >> 1));
    }
    let level = bucket.ilog2() as usize;
    // The two bits below the highest one number the quarter; 4 is theirs with the highest one.
    let quarter = bucket >> (level - 2);
    (4 * level - 15 + quarter, bucket & ((1 << (level - 2)) - 1))
}

/// Buckets in segment `segment`.
fn segment_len(segment: usize) -> usize {
    match segment {
        0 | 1 => 1,
        2..=4 => 1 << (segment - 1),
        _ => 1 << (2 + (segment - 5) / 4),
    }
}

/// A table of records with distinct keys. Keys are hashed by the caller with [`hash`].
pub struct Table<R: Record, D: Directory = Grown> {
    n_buckets: AtomicUsize,
    len: usize,
    n_segments: u32,
    n_overflow: usize,
    n_allocated: usize,
    directory: D,
    records: PhantomData<R>,
}

// SAFETY: the table owns its records and buckets; raw pointers are only reached through it.
unsafe impl<R: Record + Send, D: Directory> Send for Table<R, D> {}
// SAFETY: shared access only reads records.
unsafe impl<R: Record + Sync, D: Directory> Sync for Table<R, D> {}

impl<R: Record, D: Directory> Default for Table<R, D> {
    fn default() -> Table<R, D> {
        Table::new()
    }
}

impl<R: Record, D: Directory> std::fmt::Debug for Table<R, D> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Table")
            .field("len", &self.len)
            .finish_non_exhaustive()
    }
}

impl<R: Record, D: Directory> Table<R, D> {
    /// An empty table, which has allocated nothing. With an [`Inline`] directory it is all zeros.
    pub const fn new() -> Table<R, D> {
        Table {
            n_buckets: AtomicUsize::new(0),
            len: 0,
            n_segments: 0,
            n_overflow: 0,
            n_allocated: 0,
            directory: D::NEW,
            records: PhantomData,
        }
    }

    /// Records in the table.
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no records.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes of the table itself, without its records.
    pub fn allocated_bytes(&self) -> usize {
        (self.n_allocated + self.n_overflow) * size_of::<Bucket>()
            + self.directory.allocated_bytes()
    }

    /// Buckets, overflow buckets and allocated buckets, for DEBUG HTSTATS and tests.
    pub fn shape(&self) -> (usize, usize, usize) {
        (self.buckets(), self.n_overflow, self.n_allocated)
    }

    #[inline]
    fn buckets(&self) -> usize {
        self.n_buckets.load(Relaxed)
    }

    /// The bucket that `hash` belongs to among `n` buckets.
    #[inline]
    fn address(hash: u64, n: usize) -> usize {
        let mask = usize::MAX >> (2 * n - 1).leading_zeros() >> 1; // the next power of two, less one
        let low = hash as usize & mask;
        if low < n { low } else { low & (mask >> 1) }
    }

    /// The bucket whose records bucket `n` shares.
    #[inline]
    fn buddy(n: usize) -> usize {
        n - (1 << n.ilog2())
    }

    #[inline]
    fn bucket(&self, idx: usize) -> *mut Bucket {
        let (segment, offset) = locate(idx);
        self.directory
            .get(segment)
            .cast::<Bucket>()
            .wrapping_add(offset)
    }

    /// Asks the processor for the bucket of `hash`. May be called without any lock, at any time.
    #[inline]
    pub fn prefetch_bucket(&self, hash: u64) {
        let n = self.buckets();
        if n != 0 {
            prefetch(self.bucket(Self::address(hash, n)).cast());
        }
    }

    /// Asks the processor for the buckets that an insertion of `hash` touches: its own, and the two
    /// between which the next split divides records.
    #[inline]
    pub fn prefetch_insert(&self, hash: u64) {
        let n = self.buckets();
        if n == 0 {
            return;
        }
        for bucket in [Self::address(hash, n), Self::buddy(n)] {
            prefetch(self.bucket(bucket).cast());
        }
        if n < self.n_allocated {
            prefetch(self.bucket(n).cast());
        }
    }

    /// Asks the processor for what hangs on the buckets that an insertion of `hash` touches. Reads them.
    #[inline]
    pub fn prefetch_chains(&self, hash: u64) {
        let n = self.buckets();
        if n == 0 {
            return;
        }
        for bucket in [Self::address(hash, n), Self::buddy(n)] {
            // SAFETY: both are below n, and the caller's borrow keeps the segments alive.
            if let Some(next) = unsafe { &*self.bucket(bucket) }.overflow() {
                prefetch(next.as_ptr().cast());
            }
        }
    }

    /// Asks the processor for the record of `hash`, as far as the bucket tells, which was asked for before;
    /// else for the next one of its chain, and is false then. Reads the bucket.
    #[inline]
    pub fn prefetch_record(&self, hash: u64) -> bool {
        let n = self.buckets();
        if n == 0 {
            return true;
        }
        // SAFETY: the address is below n, and the caller's borrow keeps the segments alive.
        let bucket = unsafe { &*self.bucket(Self::address(hash, n)) };
        bucket.prefetch_record(hash)
    }

    /// Likewise after that, of the next bucket.
    #[inline(never)]
    pub fn prefetch_late_record(&self, hash: u64) {
        let n = self.buckets();
        if n > 0 {
            // SAFETY: the address is below n, and the caller's borrow keeps the segments alive.
            let bucket = unsafe { &*self.bucket(Self::address(hash, n)) };
            if let Some(next) = bucket.overflow() {
                // SAFETY: a bucket's chain is alive as long as the bucket.
                unsafe { next.as_ref() }.prefetch_record(hash);
            }
        }
    }

    /// The record that a look-up of `hash` most likely finds. Reads buckets, compares no key.
    #[inline]
    pub fn likely(&self, hash: u64) -> Option<Ref<'_, R>> {
        let n = self.buckets();
        if n == 0 {
            return None;
        }
        let mut bucket = NonNull::new(self.bucket(Self::address(hash, n)))?;
        loop {
            // SAFETY: buckets below n and their chains are alive while the table is borrowed.
            let here = unsafe { bucket.as_ref() };
            let mut found = here.matches(tag_of(hash));
            while found != 0 {
                let word = here.slots[found.trailing_zeros() as usize / 8];
                if word >> HASH_SHIFT == hash & 0x7fff {
                    // SAFETY: a slot in use holds a record.
                    return Some(unsafe { view(word) });
                }
                found &= found - 1;
            }
            bucket = here.overflow()?;
        }
    }

    #[inline]
    fn find(&self, hash: u64, key: &[u8]) -> Option<(NonNull<Bucket>, usize)> {
        let n = self.buckets();
        if n == 0 {
            return None;
        }
        let tag = tag_of(hash);
        let mut bucket = NonNull::new(self.bucket(Self::address(hash, n)))?;
        loop {
            // SAFETY: buckets below n and their chains are alive while the table is borrowed.
            let here = unsafe { bucket.as_ref() };
            let mut found = here.matches(tag);
            while found != 0 {
                let slot = found.trailing_zeros() as usize / 8;
                let word = here.slots[slot];
                // SAFETY: a slot in use holds a record.
                if word >> HASH_SHIFT == hash & 0x7fff && unsafe { view::<R>(word) }.key() == key {
                    return Some((bucket, slot));
                }
                found &= found - 1;
            }
            bucket = here.overflow()?;
        }
    }

    /// The record with `key`. O(1): one bucket and one record are touched.
    #[inline]
    pub fn get(&self, hash: u64, key: &[u8]) -> Option<Ref<'_, R>> {
        let (bucket, slot) = self.find(hash, key)?;
        // SAFETY: `find` answers slots in use.
        Some(unsafe { view(bucket.as_ref().slots[slot]) })
    }

    /// The place of the record with `key`, to change or remove it. O(1).
    #[inline]
    pub fn find_mut(&mut self, hash: u64, key: &[u8]) -> Option<Occupied<'_, R, D>> {
        let (bucket, slot) = self.find(hash, key)?;
        Some(Occupied {
            table: self,
            bucket,
            slot,
            hash,
        })
    }

    /// Adds a record whose key is not in the table. O(1); may add one bucket.
    #[inline]
    pub fn insert(&mut self, hash: u64, record: R) -> Occupied<'_, R, D> {
        debug_assert!(self.find(hash, record.key()).is_none());
        if self.buckets() == 0 {
            self.add_segment();
            self.n_buckets.store(1, Relaxed);
        }
        self.len += 1;
        self.grow();
        let word = record.into_raw().as_ptr() as u64 | (hash << HASH_SHIFT);
        let root = self.bucket(Self::address(hash, self.buckets()));
        let (bucket, slot) = self.place(root, tag_of(hash), word);
        Occupied {
            table: self,
            bucket,
            slot,
            hash,
        }
    }

    /// Every record whose hash ends in the 28 bits `low`, with its flag: at most a few. O(1).
    pub fn with_low_hash(&self, low: u64, visit: &mut dyn FnMut(Ref<'_, R>)) {
        let n = self.buckets();
        if n == 0 {
            return;
        }
        let root = self.bucket(Self::address(low, n));
        self.each_in_chain(root, &mut |word| {
            if word >> HASH_SHIFT == low & 0x7fff {
                // SAFETY: the word comes from a slot in use.
                visit(unsafe { view(word) });
            }
        });
    }

    /// Puts `word` into the chain that starts at `root`.
    fn place(&mut self, root: *mut Bucket, tag: u8, word: u64) -> (NonNull<Bucket>, usize) {
        let mut bucket = NonNull::new(root).expect("the directory has this segment");
        loop {
            // SAFETY: the chain's buckets are alive and reached through &mut self alone.
            let here = unsafe { bucket.as_mut() };
            if let Some(slot) = here.free_slot() {
                here.put(slot, tag, word);
                return (bucket, slot);
            }
            bucket = match here.overflow() {
                Some(next) => next,
                None => {
                    let next = new_buckets(1);
                    // SAFETY: just allocated.
                    let fresh = unsafe { &mut *next };
                    fresh.put(0, here.tag(SLOTS - 1), here.slots[SLOTS - 1]);
                    here.clear(SLOTS - 1);
                    here.head |= CHAINED;
                    here.slots[SLOTS - 1] = next as u64;
                    self.n_overflow += 1;
                    NonNull::from(fresh)
                }
            };
        }
    }

    fn add_segment(&mut self) {
        let idx = self.n_segments as usize;
        let n = segment_len(idx);
        self.directory.push(idx, new_buckets(n).cast());
        self.n_segments += 1;
        self.n_allocated += n;
    }

    /// Adds a bucket if memory per record allows it.
    fn grow(&mut self) {
        if self.buckets() == self.n_allocated {
            let next = self.n_segments as usize;
            let cost =
                (self.n_allocated + self.n_overflow + segment_len(next)) * size_of::<Bucket>();
            if next == SEGMENTS || cost > self.len * BYTES_PER_RECORD_MAX {
                return;
            }
            self.add_segment();
        }
        self.split();
    }

    /// Moves half of one bucket's records to a new bucket at the end.
    fn split(&mut self) {
        let n = self.buckets();
        let bit = n.ilog2();
        let old = self.bucket(Self::buddy(n));
        let new = self.bucket(n);
        self.n_buckets.store(n + 1, Relaxed);
        self.drain_chain(old, &mut |table, tag, word| {
            let moves = if bit < HASH_BITS {
                word >> (HASH_SHIFT + bit) & 1 == 1
            } else {
                // SAFETY: the word comes from a slot in use.
                hash(unsafe { view::<R>(word) }.key()) >> bit & 1 == 1
            };
            table.place(if moves { new } else { old }, tag, word);
        });
    }

    /// Gives the last bucket back if the table has become too large for its records.
    fn shrink(&mut self) {
        let n = self.buckets();
        let cost = (n + self.n_overflow) * size_of::<Bucket>();
        if n == 1 || cost <= self.len * BYTES_PER_RECORD_SHRINK + size_of::<Bucket>() {
            return;
        }
        let last = n - 1;
        let buddy = self.bucket(Self::buddy(last));
        let bucket = self.bucket(last);
        self.n_buckets.store(last, Relaxed);
        self.drain_chain(bucket, &mut |table, tag, word| {
            table.place(buddy, tag, word);
        });
        let (segment, offset) = locate(last);
        let n_segments = self.n_segments as usize;
        if (offset == 0 && segment + 1 == n_segments) || segment + 2 == n_segments {
            self.drop_segment();
        }
    }

    fn drop_segment(&mut self) {
        let idx = self.n_segments as usize - 1;
        let segment = self.directory.get(idx);
        self.directory.pop(idx);
        self.n_segments -= 1;
        self.n_allocated -= segment_len(idx);
        // SAFETY: allocated by `add_segment` with this length, and its buckets are empty.
        unsafe { free_buckets(segment.cast(), segment_len(idx)) };
    }

    /// Empties a chain, frees its overflow buckets and hands out what it held.
    fn drain_chain(&mut self, root: *mut Bucket, take: &mut dyn FnMut(&mut Self, u8, u64)) {
        let mut held = [(0_u8, 0_u64); SLOTS];
        let mut bucket = root;
        let mut is_root = true;
        loop {
            // SAFETY: the chain's buckets are alive; the reference ends before anything is placed.
            let (n_held, next) = unsafe {
                let here = &mut *bucket;
                let mut n_held = 0;
                for slot in (0..SLOTS).filter(|slot| here.head >> (56 + slot) & 1 == 1) {
                    held[n_held] = (here.tag(slot), here.slots[slot]);
                    n_held += 1;
                }
                let next = here.overflow();
                here.head = 0;
                (n_held, next)
            };
            if !is_root {
                self.n_overflow -= 1;
                // SAFETY: an overflow bucket is an allocation of one, and nothing points to it now.
                unsafe { free_buckets(bucket, 1) };
            }
            for &(tag, word) in &held[..n_held] {
                take(self, tag, word);
            }
            match next {
                Some(next) => bucket = next.as_ptr(),
                None => return,
            }
            is_root = false;
        }
    }

    fn each_in_chain(&self, root: *mut Bucket, visit: &mut dyn FnMut(u64)) {
        let mut next = NonNull::new(root);
        while let Some(bucket) = next {
            // SAFETY: the chain's buckets are alive while the table is borrowed.
            let here = unsafe { bucket.as_ref() };
            let mut used = here.used();
            while used != 0 {
                visit(here.slots[used.trailing_zeros() as usize / 8]);
                used &= used - 1;
            }
            next = here.overflow();
        }
    }

    /// All records, in bucket order. O(buckets).
    pub fn iter(&self) -> Iter<'_, R, D> {
        Iter {
            table: self,
            bucket: 0,
            used: 0,
            here: None,
        }
    }

    /// Visits the records behind `cursor` (0 starts) and returns the next cursor (0: done).
    /// A record present from start to end is visited at least once, whatever grows or shrinks
    /// in between. O(records of one or two buckets).
    pub fn scan(&self, cursor: u64, visit: &mut dyn FnMut(Ref<'_, R>)) -> u64 {
        let n = self.buckets();
        if n == 0 {
            return 0;
        }
        let bits = usize::BITS - 1 - n.leading_zeros(); // 2^bits <= n
        let mask = (1_u64 << bits) - 1;
        let low = (cursor & mask) as usize;
        // SAFETY: the words come from slots in use.
        let mut each = |word| visit(unsafe { view(word) });
        self.each_in_chain(self.bucket(low), &mut each);
        if low + (1 << bits) < n {
            self.each_in_chain(self.bucket(low + (1 << bits)), &mut each);
        }
        // Counts in reversed bits: the high bits of the mask move first.
        ((cursor | !mask).reverse_bits().wrapping_add(1)).reverse_bits()
    }

    /// Asks the processor for what a scan at `cursor` comes to some steps later: buckets, and the records of
    /// those that were asked for before. Reads buckets.
    pub fn prefetch_scan(&self, cursor: u64) {
        const RECORDS_AHEAD: u64 = 3;
        const BUCKETS_AHEAD: u64 = 6;
        let n = self.buckets();
        if n == 0 {
            return;
        }
        let bits = usize::BITS - 1 - n.leading_zeros();
        let mask = (1_u64 << bits) - 1;
        let buckets = |steps: u64| {
            let later = (cursor | !mask).reverse_bits().wrapping_add(steps);
            let low = (later.reverse_bits() & mask) as usize;
            [low, low + (1 << bits)].into_iter().filter(|&at| at < n)
        };
        for bucket in buckets(BUCKETS_AHEAD) {
            prefetch(self.bucket(bucket).cast());
        }
        for bucket in buckets(RECORDS_AHEAD) {
            // SAFETY: it is below n, and the caller's borrow keeps the segments alive.
            let here = unsafe { &*self.bucket(bucket) };
            let mut used = here.used();
            while used != 0 {
                let slot = used.trailing_zeros() as usize / 8;
                let record = (here.slots[slot] & ADDRESS) as *const u8;
                prefetch(record);
                prefetch(record.wrapping_add(64));
                used &= used - 1;
            }
            if let Some(next) = here.overflow() {
                prefetch(next.as_ptr().cast());
            }
        }
    }

    /// Like [`Table::scan`], for the records whose flag is not `mark`, which is then set so.
    pub fn sweep(&mut self, cursor: u64, mark: bool, visit: &mut dyn FnMut(&R)) -> u64 {
        let n = self.buckets();
        if n == 0 {
            return 0;
        }
        let bits = usize::BITS - 1 - n.leading_zeros(); // 2^bits <= n
        let low_bits = (1_u64 << bits) - 1;
        let low = (cursor & low_bits) as usize;
        self.sweep_chain(self.bucket(low), mark, visit);
        if low + (1 << bits) < n {
            self.sweep_chain(self.bucket(low + (1 << bits)), mark, visit);
        }
        ((cursor | !low_bits).reverse_bits().wrapping_add(1)).reverse_bits()
    }

    fn sweep_chain(&mut self, root: *mut Bucket, mark: bool, visit: &mut dyn FnMut(&R)) {
        let mut next = NonNull::new(root);
        while let Some(mut bucket) = next {
            // SAFETY: the chain's buckets are alive and reached through &mut self alone.
            let here = unsafe { bucket.as_mut() };
            let mut used = here.used();
            while used != 0 {
                let word = &mut here.slots[used.trailing_zeros() as usize / 8];
                if (*word & FLAG != 0) != mark {
                    // SAFETY: the word comes from a slot in use.
                    let record = unsafe { view::<R>(*word) };
                    visit(&record);
                    *word ^= FLAG;
                }
                used &= used - 1;
            }
            next = here.overflow();
        }
    }

    /// A record chosen by `random` (64 random bits). Near uniform: buckets are equally likely,
    /// then the records in one. `None` when empty. O(1) unless nearly all buckets are empty.
    pub fn sample(&self, random: u64) -> Option<Ref<'_, R>> {
        if self.len == 0 {
            return None;
        }
        let n = self.buckets();
        // No chain is longer, or hardly ever; among few buckets the unsplit ones weigh more.
        let longest = if n < 64 { 40 } else { 20 };
        let mut random = random;
        // A bucket is accepted in proportion to its records, so that records are equally likely.
        for round in 0.. {
            random = random.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mixed = (random ^ (random >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            let mixed = mixed ^ (mixed >> 31);
            let bucket = self.bucket(((mixed >> 32) as usize * n) >> 32);
            let mut count = 0_u64;
            self.each_in_chain(bucket, &mut |_| count += 1);
            let slots = if round < 128 {
                count.max(longest)
            } else {
                count
            };
            let pick = if slots == 0 {
                0
            } else {
                (mixed & 0xffff_ffff) % slots
            };
            if pick < count {
                let (mut at, mut word) = (0, 0);
                self.each_in_chain(bucket, &mut |each| {
                    if at == pick {
                        word = each;
                    }
                    at += 1;
                });
                // SAFETY: the word comes from a slot in use.
                return Some(unsafe { view(word) });
            }
            if round > 4096 {
                break;
            }
        }
        self.iter().next()
    }

    /// Shows at least `n` records, all of buckets chosen by `random`, or as many as 64 buckets hold. A
    /// record may come twice.
    pub fn sample_some(&self, random: u64, n: usize, visit: &mut dyn FnMut(Ref<'_, R>)) {
        if self.len == 0 {
            return;
        }
        let (mut random, mut n_seen) = (random, 0);
        for _ in 0..SAMPLED_BUCKETS_MAX {
            random = random
                .wrapping_mul(0x5851_f42d_4c95_7f2d)
                .wrapping_add(0x1405_7b7e_f767_814f);
            let bucket = self.bucket(((random >> 32) as usize * self.buckets()) >> 32);
            self.each_in_chain(bucket, &mut |word| {
                n_seen += 1;
                // SAFETY: the word comes from a slot in use.
                visit(unsafe { view(word) });
            });
            if n_seen >= n {
                return;
            }
        }
    }

    /// Panics if the structure is not what this file says. O(n). For tests and fuzzers.
    pub fn check_invariants(&self) {
        let (n, mut len, mut n_overflow) = (self.buckets(), 0, 0);
        assert_eq!(
            (0..self.n_segments as usize)
                .map(segment_len)
                .sum::<usize>(),
            self.n_allocated
        );
        assert!(n <= self.n_allocated);
        for idx in 0..n {
            let mut next = NonNull::new(self.bucket(idx));
            let mut is_root = true;
            while let Some(bucket) = next {
                // SAFETY: alive while the table is borrowed.
                let here = unsafe { bucket.as_ref() };
                next = here.overflow();
                n_overflow += usize::from(!is_root);
                assert!(is_root || here.count() > 0 || next.is_some(), "an empty overflow bucket");
                is_root = false;
                for slot in (0..SLOTS).filter(|slot| here.head >> (56 + slot) & 1 == 1) {
                    // SAFETY: a slot in use holds a record.
                    let hash = hash(unsafe { view::<R>(here.slots[slot]) }.key());
                    assert_eq!(Self::address(hash, n), idx);
                    assert_eq!(here.tag(slot), tag_of(hash));
                    assert_eq!(here.slots[slot] >> HASH_SHIFT, hash & 0x7fff);
                    len += 1;
                }
            }
        }
        assert_eq!((len, n_overflow), (self.len, self.n_overflow));
    }
}

impl<R: Record, D: Directory> Drop for Table<R, D> {
    fn drop(&mut self) {
        for idx in 0..self.buckets() {
            let bucket = self.bucket(idx);
            self.drain_chain(bucket, &mut |_, _, word| {
                // SAFETY: the record was in the table and is handed out once.
                drop(unsafe { R::from_raw(address_of(word)) });
            });
        }
        while self.n_segments > 0 {
            self.drop_segment();
        }
    }
}

/// The place of one record in its table.
pub struct Occupied<'a, R: Record, D: Directory = Grown> {
    table: &'a mut Table<R, D>,
    bucket: NonNull<Bucket>,
    slot: usize,
    hash: u64,
}

impl<'a, R: Record, D: Directory> Occupied<'a, R, D> {
    #[inline]
    fn word(&self) -> u64 {
        // SAFETY: the place is valid while the table is borrowed by it.
        unsafe { self.bucket.as_ref().slots[self.slot] }
    }

    #[inline]
    fn set_word(&mut self, word: u64) {
        // SAFETY: as in `word`, and the borrow is exclusive.
        unsafe { self.bucket.as_mut().slots[self.slot] = word };
    }

    /// The record.
    #[inline]
    pub fn read(&self) -> Ref<'_, R> {
        // SAFETY: the slot is in use.
        unsafe { view(self.word()) }
    }

    /// The record, for as long as the table is borrowed.
    #[inline]
    pub fn into_ref(self) -> Ref<'a, R> {
        // SAFETY: the slot is in use.
        unsafe { view(self.word()) }
    }

    /// The table.
    pub fn table(&self) -> &Table<R, D> {
        self.table
    }

    /// The hash that the record was found by.
    #[inline]
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// Replaces the record by what `change` makes of it; the key must stay. If `change` panics,
    /// the process aborts, as the slot would be left without a record.
    #[inline]
    pub fn update(&mut self, change: impl FnOnce(R) -> R) {
        struct Abort;
        impl Drop for Abort {
            fn drop(&mut self) {
                std::process::abort();
            }
        }
        let word = self.word();
        let guard = Abort;
        // SAFETY: the record is taken here and put back below.
        let changed = change(unsafe { R::from_raw(address_of(word)) });
        std::mem::forget(guard);
        self.set_word((word & !ADDRESS) | changed.into_raw().as_ptr() as u64);
    }

    /// Puts `record`, with the same key, in place of the old one, which is returned.
    #[inline]
    pub fn replace(&mut self, record: R) -> R {
        let word = self.word();
        self.set_word((word & !ADDRESS) | record.into_raw().as_ptr() as u64);
        // SAFETY: the slot no longer refers to it.
        unsafe { R::from_raw(address_of(word)) }
    }

    /// The flag kept beside the record's address.
    #[inline]
    pub fn flag(&self) -> bool {
        self.word() & FLAG != 0
    }

    /// Sets the flag.
    #[inline]
    pub fn set_flag(&mut self, flag: bool) {
        let word = self.word() & !FLAG;
        self.set_word(if flag { word | FLAG } else { word });
    }

    /// Takes the record out. O(1); may give one bucket back.
    pub fn remove(self) -> R {
        let word = self.word();
        let table = self.table;
        let root = table.bucket(Table::<R, D>::address(self.hash, table.buckets()));
        table.close_gap(root, self.bucket, self.slot);
        table.len -= 1;
        table.shrink();
        // SAFETY: the slot no longer refers to it.
        unsafe { R::from_raw(address_of(word)) }
    }
}

impl<R: Record, D: Directory> Table<R, D> {
    /// Empties a slot and fills it from the end of the chain, so that chains stay dense.
    fn close_gap(&mut self, root: *mut Bucket, mut gap: NonNull<Bucket>, slot: usize) {
        // SAFETY: the gap's bucket is part of the chain, reached through &mut self alone.
        unsafe { gap.as_mut().clear(slot) };
        let (mut parent, mut last) = (None, NonNull::new(root).expect("the chain exists"));
        // SAFETY: the chain's buckets are alive.
        while let Some(next) = unsafe { last.as_ref() }.overflow() {
            parent = Some(last);
            last = next;
        }
        let Some(mut parent) = parent else { return };
        // SAFETY: `last`, `parent` and `gap` are buckets of the chain; one reference at a time.
        unsafe {
            let tail = last.as_mut();
            if last != gap && tail.count() > 0 {
                let from = (tail.used().trailing_zeros() / 8) as usize;
                let (tag, word) = (tail.tag(from), tail.slots[from]);
                tail.clear(from);
                gap.as_mut().put(slot, tag, word);
            }
            let tail = last.as_ref();
            if tail.count() > 1 {
                return;
            }
            let rest = (tail.count() == 1).then(|| {
                let from = (tail.used().trailing_zeros() / 8) as usize;
                (tail.tag(from), tail.slots[from])
            });
            parent.as_mut().head &= !CHAINED;
            if let Some((tag, word)) = rest {
                parent.as_mut().put(SLOTS - 1, tag, word);
            }
            free_buckets(last.as_ptr(), 1);
        }
        self.n_overflow -= 1;
    }
}

/// See [`Table::iter`].
pub struct Iter<'a, R: Record, D: Directory> {
    table: &'a Table<R, D>,
    bucket: usize,
    used: u64,
    here: Option<NonNull<Bucket>>,
}

impl<'a, R: Record, D: Directory> Iterator for Iter<'a, R, D> {
    type Item = Ref<'a, R>;

    fn next(&mut self) -> Option<Ref<'a, R>> {
        loop {
            // SAFETY: the bucket is alive while the table is borrowed.
            if let Some(here) = self.here.map(|bucket| unsafe { &*bucket.as_ptr() }) {
                if self.used != 0 {
                    let slot = self.used.trailing_zeros() as usize / 8;
                    self.used &= self.used - 1;
                    // SAFETY: the slot is in use.
                    return Some(unsafe { view(here.slots[slot]) });
                }
                self.here = here.overflow();
            }
            if self.here.is_none() {
                if self.bucket == self.table.buckets() {
                    return None;
                }
                self.here = NonNull::new(self.table.bucket(self.bucket));
                self.bucket += 1;
            }
            // SAFETY: as above.
            self.used = self
                .here
                .map_or(0, |bucket| unsafe { bucket.as_ref() }.used());
        }
    }
}

#[inline]
fn tag_of(hash: u64) -> u8 {
    (hash >> 56) as u8
}

#[inline]
fn address_of(word: u64) -> NonNull<u8> {
    NonNull::new((word & ADDRESS) as *mut u8).expect("a slot in use holds an address")
}

/// # Safety
/// `word` is that of a slot in use, in a table borrowed for 'a.
#[inline]
unsafe fn view<'a, R: Record>(word: u64) -> Ref<'a, R> {
    let raw = address_of(word);
    // SAFETY: the copy is never dropped, so the table keeps ownership.
    let record = ManuallyDrop::new(unsafe { R::from_raw(raw) });
    Ref {
        record,
        flag: word & FLAG != 0,
        table: PhantomData,
    }
}

#[inline]
fn prefetch(address: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch is a hint; it reads nothing and never faults.
    unsafe {
        std::arch::x86_64::_mm_prefetch(address.cast(), std::arch::x86_64::_MM_HINT_T0);
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}

fn layout(n: usize) -> Layout {
    Layout::array::<Bucket>(n).expect("a segment fits the address space")
}

fn new_buckets(n: usize) -> *mut Bucket {
    // SAFETY: the layout is not empty; all-zero is an empty bucket.
    let buckets = unsafe { alloc_zeroed(layout(n)) };
    if buckets.is_null() {
        handle_alloc_error(layout(n));
    }
    buckets.cast()
}

/// # Safety
/// `buckets` comes from `new_buckets(n)` and is used by nobody.
unsafe fn free_buckets(buckets: *mut Bucket, n: usize) {
    // SAFETY: as promised by the caller.
    unsafe { dealloc(buckets.cast(), layout(n)) }
}

#[cfg(test)]
mod tests;
