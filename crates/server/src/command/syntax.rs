//! The grammar of a command's arguments: the `syntax` of its row, parsed into a tree on demand.
//!
//! ```text
//! key                  an argument; its type follows from its name
//! min=double           an argument of another type than its name suggests
//! COUNT count          an argument behind a word; words are in capitals
//! WITHSCORES           a word alone
//! change(CH)           a word alone under a name that is not its own
//! nothing('')          the empty word under a name
//! limit(offset count)  a block of arguments under one name; also behind a word
//! where(LEFT|RIGHT)    one of several
//! [ ... ]              whatever is inside may be left out
//! member ...           once or more
//! PREFIX prefix +...   once or more, each time with its word
//! ```

/// An argument, or several under one name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Argument {
    /// Its name, in lower case.
    pub name: String,
    /// The word before it.
    pub token: Option<String>,
    /// See [`Shape`].
    pub shape: Shape,
    /// It may be left out.
    pub is_optional: bool,
    /// It may come several times.
    pub is_multiple: bool,
    /// Each time with its word.
    pub repeats_token: bool,
}

/// What an argument is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shape {
    /// A value of this type.
    Value(&'static str),
    /// The word alone.
    PureToken,
    /// All of these, in this order.
    Block(Vec<Argument>),
    /// One of these.
    OneOf(Vec<Argument>),
}

impl Shape {
    /// The type, as COMMAND DOCS names it.
    pub fn name(&self) -> &'static str {
        match self {
            Shape::Value(name) => name,
            Shape::PureToken => "pure-token",
            Shape::Block(_) => "block",
            Shape::OneOf(_) => "oneof",
        }
    }

    /// The arguments inside.
    pub fn inner(&self) -> &[Argument] {
        match self {
            Shape::Block(inner) | Shape::OneOf(inner) => inner,
            Shape::Value(_) | Shape::PureToken => &[],
        }
    }
}

/// The types that follow from a name; all other names are strings.
const TYPES: &[(&str, &str)] = &[
    (
        "integer",
        "bits client-id count cursor db decrement destination-db end frequency increment index \
         index1 index2 len limit maxage milliseconds min-match-len num-matches numfields numkeys \
         num-vertices numlocal numreplicas offset port protover rank seconds start stop ttl version weight",
    ),
    ("key", "destination dst key key1 key2 keys newkey source src storedistkey storekey"),
    ("pattern", "by-pattern get-pattern pattern"),
    ("double", "height latitude longitude radius score timeout width"),
    ("unix-time", "unix-time-milliseconds unix-time-seconds"),
];

fn type_of(name: &str) -> &'static str {
    let is_named = |names: &str| names.split(' ').any(|other| other == name);
    TYPES
        .iter()
        .find(|(_, names)| is_named(names))
        .map_or("string", |(kind, _)| kind)
}

fn type_named(name: &str) -> Option<&'static str> {
    let mut names = TYPES.iter().map(|(kind, _)| *kind).chain(["string"]);
    names.find(|kind| *kind == name)
}

/// The arguments that `syntax` describes; `None` where it breaks the grammar. O(length).
pub fn parse(syntax: &str) -> Option<Vec<Argument>> {
    let mut parser = Parser { rest: syntax };
    let (arguments, is_choice) = parser.list()?;
    (parser.rest.is_empty() && !is_choice).then_some(arguments)
}

struct Parser<'a> {
    rest: &'a str,
}

impl<'a> Parser<'a> {
    fn eat(&mut self, text: &str) -> bool {
        let rest = self.rest.strip_prefix(text);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    /// Arguments up to a closing bracket or the end, and whether bars separate them.
    fn list(&mut self) -> Option<(Vec<Argument>, bool)> {
        let (mut arguments, mut is_choice) = (Vec::new(), false);
        while !self.rest.is_empty() && !self.rest.starts_with([')', ']']) {
            arguments.push(self.argument()?);
            is_choice |= self.eat("|");
            self.eat(" ");
        }
        Some((arguments, is_choice))
    }

    fn argument(&mut self) -> Option<Argument> {
        let is_optional = self.eat("[");
        let mut argument = self.bare()?;
        argument.repeats_token = self.eat(" +...");
        argument.is_multiple = argument.repeats_token || self.eat(" ...");
        argument.is_optional = is_optional;
        (!is_optional || self.eat("]")).then_some(argument)
    }

    fn bare(&mut self) -> Option<Argument> {
        let word = self.word()?;
        if !word.starts_with(|first: char| first.is_ascii_lowercase()) {
            let is_followed = self
                .rest
                .strip_prefix(' ')
                .is_some_and(|rest| rest.starts_with(|first: char| first.is_ascii_lowercase()));
            if !is_followed {
                let word = if word == "''" { "" } else { word };
                return Some(argument(&word.to_ascii_lowercase(), Some(word), Shape::PureToken));
            }
            self.eat(" ");
            return Some(Argument {
                token: Some(word.to_owned()),
                ..self.bare()?
            });
        }
        if self.eat("=") {
            let kind = type_named(self.word()?)?;
            return Some(argument(word, None, Shape::Value(kind)));
        }
        if !self.eat("(") {
            return Some(argument(word, None, Shape::Value(type_of(word))));
        }
        let (mut inner, is_choice) = self.list()?;
        if !self.eat(")") {
            return None;
        }
        let is_renamed = inner.len() == 1 && inner[0].shape == Shape::PureToken;
        Some(match (is_renamed, is_choice) {
            (true, _) => argument(word, inner.remove(0).token.as_deref(), Shape::PureToken),
            (_, true) => argument(word, None, Shape::OneOf(inner)),
            (_, false) => argument(word, None, Shape::Block(inner)),
        })
    }

    fn word(&mut self) -> Option<&'a str> {
        let from = usize::from(self.rest.starts_with('=')); // which is a word, too
        let end = self.rest[from..].find([' ', '(', ')', '[', ']', '|', '=']);
        let end = end.map(|end| end + from);
        let (word, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
        self.rest = rest;
        (!word.is_empty()).then_some(word)
    }
}

fn argument(name: &str, token: Option<&str>, shape: Shape) -> Argument {
    Argument {
        name: name.to_owned(),
        token: token.map(str::to_owned),
        shape,
        is_optional: false,
        is_multiple: false,
        repeats_token: false,
    }
}

/// The fewest arguments, and whether that is also the most.
pub fn n_arguments(arguments: &[Argument]) -> (usize, bool) {
    let mut total = (0, true);
    for argument in arguments {
        let (least, is_fixed) = count(argument);
        total.0 += if argument.is_optional { 0 } else { least };
        total.1 &= is_fixed && !argument.is_optional && !argument.is_multiple;
    }
    total
}

fn count(argument: &Argument) -> (usize, bool) {
    let (least, is_fixed) = match &argument.shape {
        Shape::Value(_) => (1, true),
        Shape::PureToken => (0, true),
        Shape::Block(inner) => n_arguments(inner),
        Shape::OneOf(inner) => {
            let counts: Vec<_> = inner.iter().map(count).collect();
            let least = counts.iter().map(|(least, _)| *least).min().unwrap_or(0);
            (least, counts.iter().all(|count| *count == (least, true)))
        }
    };
    (least + usize::from(argument.token.is_some()), is_fixed)
}

/// The arguments as manuals show them, each wrapped by `show`.
pub fn manual(arguments: &[Argument], show: &dyn Fn(&str) -> String) -> String {
    let shown: Vec<_> = arguments
        .iter()
        .map(|argument| one(argument, show))
        .collect();
    shown.join(" ")
}

fn one(argument: &Argument, show: &dyn Fn(&str) -> String) -> String {
    let value = match &argument.shape {
        Shape::Value(_) => show(&argument.name),
        Shape::PureToken => String::new(),
        Shape::Block(inner) => manual(inner, show),
        Shape::OneOf(inner) => {
            let choices: Vec<_> = inner.iter().map(|argument| one(argument, show)).collect();
            choices.join("|")
        }
    };
    let once = match (&argument.token, value.is_empty()) {
        (None, _) => value.clone(),
        (Some(token), true) => token.clone(),
        (Some(token), false) => format!("{token} {value}"),
    };
    let text = match (argument.is_multiple, argument.repeats_token) {
        (false, _) => once,
        (true, true) => format!("{once} [{once} ...]"),
        (true, false) => format!("{once} [{value} ...]"),
    };
    if argument.is_optional {
        format!("[{text}]")
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(syntax: &str) -> String {
        manual(&parse(syntax).expect("a grammar"), &str::to_owned)
    }

    #[test]
    fn a_grammar_is_shown_as_manuals_do() {
        assert_eq!(shown("key member ..."), "key member [member ...]");
        assert_eq!(
            shown("key [condition(NX|XX)] [change(CH)] data(score member) ..."),
            "key [NX|XX] [CH] score member [score member ...]"
        );
        assert_eq!(
            shown("numkeys key ... [WEIGHTS weight ...] [LIMIT limit(offset count)]"),
            "numkeys key [key ...] [WEIGHTS weight [weight ...]] [LIMIT offset count]"
        );
        assert_eq!(shown("[PREFIX prefix +...]"), "[PREFIX prefix [PREFIX prefix ...]]");
        assert_eq!(shown("args(host-port(host port)|no-one(NO ONE))"), "host port|NO ONE");
    }

    #[test]
    fn types_follow_from_names_unless_said_otherwise() {
        let arguments = parse("key min=double max [LEN] where(BEFORE|AFTER)").expect("a grammar");
        let types: Vec<_> = arguments
            .iter()
            .map(|argument| argument.shape.name())
            .collect();
        assert_eq!(types, ["key", "double", "string", "pure-token", "oneof"]);
    }

    #[test]
    fn what_breaks_the_grammar_is_refused() {
        for broken in ["key (", "key=nothing", "[key", "a|b", "key]", "where(A|B"] {
            assert_eq!(parse(broken), None, "{broken}");
        }
    }

    #[test]
    fn the_number_of_arguments_follows() {
        let arity = |syntax| n_arguments(&parse(syntax).expect("a grammar"));
        assert_eq!(arity("key value"), (2, true));
        assert_eq!(arity("numkeys key ... where(LEFT|RIGHT) [COUNT count]"), (3, false));
        assert_eq!(arity("attr(LIB-NAME libname|LIB-VER libver)"), (2, true));
        assert_eq!(arity("key FIELDS fields(numfields field ...)"), (4, false));
    }
}
