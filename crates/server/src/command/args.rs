//! A cursor over a command's arguments: slices of the input buffer, never copied.

use crate::error::{Error, Result};
use std::ops::Deref;

/// The longest option word; a longer argument matches none.
const WORD_BYTES_MAX: usize = 24;

/// An argument in upper case, to be matched against option words.
#[derive(Clone, Copy, Debug)]
pub struct Word {
    bytes: [u8; WORD_BYTES_MAX],
    len: usize,
}

impl Word {
    fn new(text: &[u8]) -> Word {
        let mut word = Word {
            bytes: [0; WORD_BYTES_MAX],
            len: text.len(),
        };
        if text.len() > WORD_BYTES_MAX {
            word.len = 1; // one zero byte, which is no option's name
            return word;
        }
        word.bytes[..text.len()].copy_from_slice(text);
        word.bytes.make_ascii_uppercase();
        word
    }
}

impl Deref for Word {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// See the top of the file.
#[derive(Clone, Debug)]
pub struct Args<'a> {
    name: &'static str,
    rest: &'a [&'a [u8]],
}

impl<'a> Args<'a> {
    /// The arguments `rest` of the command `name`.
    #[inline]
    pub fn new(name: &'static str, rest: &'a [&'a [u8]]) -> Args<'a> {
        Args { name, rest }
    }

    /// The command's full name, as error texts give it.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Arguments left.
    pub fn len(&self) -> usize {
        self.rest.len()
    }

    /// Whether none are left.
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The wrong-number-of-arguments error of this command.
    pub fn arity_error(&self) -> Error {
        Error::Arity(self.name)
    }

    /// The next argument; a syntax error if there is none.
    #[inline]
    pub fn take(&mut self) -> Result<&'a [u8]> {
        let (first, rest) = self.rest.split_first().ok_or(Error::Syntax)?;
        self.rest = rest;
        Ok(first)
    }

    /// The next argument, which stays.
    pub fn peek(&self) -> Option<&'a [u8]> {
        self.rest.first().copied()
    }

    /// The next argument as an integer.
    pub fn int(&mut self) -> Result<i64> {
        stdx::number::parse_i64(self.take()?).ok_or(Error::NotAnInteger)
    }

    /// The next argument as an integer of 32 bits.
    pub fn int32(&mut self) -> Result<i32> {
        i32::try_from(self.int()?).map_err(|_| {
            Error::Plain("ERR value is out of range, value must between -2147483648 and 2147483647")
        })
    }

    /// The next argument as a number.
    pub fn float(&mut self) -> Result<f64> {
        stdx::number::parse_f64(self.take()?).ok_or(Error::NotAFloat)
    }

    /// The next argument in upper case, for matching options.
    pub fn word(&mut self) -> Option<Word> {
        self.take().ok().map(Word::new)
    }

    /// Takes the next argument if it is this word, in any case.
    pub fn eat(&mut self, word: &[u8]) -> bool {
        let found = self
            .peek()
            .is_some_and(|next| next.eq_ignore_ascii_case(word));
        if found {
            self.rest = &self.rest[1..];
        }
        found
    }

    /// All arguments left.
    pub fn rest(&mut self) -> std::iter::Copied<std::slice::Iter<'a, &'a [u8]>> {
        std::mem::take(&mut self.rest).iter().copied()
    }

    /// Takes the next `n` arguments; a syntax error if there are fewer.
    pub fn take_n(&mut self, n: usize) -> Result<&'a [&'a [u8]]> {
        if n > self.rest.len() {
            return Err(Error::Syntax);
        }
        let (taken, rest) = self.rest.split_at(n);
        self.rest = rest;
        Ok(taken)
    }

    /// A syntax error if arguments are left.
    pub fn end(&self) -> Result<()> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(Error::Syntax)
        }
    }

    /// The next argument as a number of keys that follow it.
    pub fn numkeys(&mut self) -> Result<usize> {
        let n = self.int()?;
        if n <= 0 {
            return Err(Error::Plain("ERR numkeys should be greater than 0"));
        }
        if n as usize > self.rest.len() {
            return Err(Error::Plain("ERR Number of keys can't be greater than number of args"));
        }
        Ok(n as usize)
    }
}
