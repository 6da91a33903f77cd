//! Which crate a function comes from, read off its mangled name.
//!
//! A generic function of one crate is compiled into another. What counts for preemption is who wrote it, and rustc's v0
//! scheme says so: a path begins with its crate, and an implementation is named by the module that it stands in.
//!
//! ```text
//!   _RNvXs_NtCs1234_4rand4corNtNtB5_3rngNtNtB5_4core7RngCore8next_u32   the crate is rand
//!     N v <path> 8next_u32             nested in
//!         X s_ <path> <type> <trait>   an implementation that stands in
//!              N t <path> 4core        a module of
//!                  C s1234_ 4rand      a crate
//! ```
//!
//! The grammar is that of RFC 2603. Only as much of it is read as lies before the crate; types are skipped.

/// The name of the crate in which the function of this symbol is written; none for a symbol that was not mangled so, or cannot be
/// read.
pub(crate) fn defining_crate(symbol: &str) -> Option<&str> {
    let rest = symbol.strip_prefix("_R")?;
    Parser { input: rest, at: 0, depth: 0 }.path_crate()
}

/// Nesting that is followed. rustc's own demangler stops there, too.
const DEPTH: u32 = 500;

struct Parser<'a> {
    input: &'a str,
    at: usize,
    depth: u32,
}

impl<'a> Parser<'a> {
    fn peek(&self) -> Option<u8> {
        self.input.as_bytes().get(self.at).copied()
    }

    fn next(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at += 1;
        Some(byte)
    }

    fn eat(&mut self, byte: u8) -> bool {
        let there = self.peek() == Some(byte);
        self.at += usize::from(there);
        there
    }

    fn deeper<R>(&mut self, f: impl FnOnce(&mut Self) -> Option<R>) -> Option<R> {
        if self.depth == DEPTH {
            return None;
        }
        self.depth += 1;
        let result = f(self);
        self.depth -= 1;
        result
    }

    /// Digits and letters up to an underscore, which is 0 by itself.
    fn base_62(&mut self) -> Option<usize> {
        if self.eat(b'_') {
            return Some(0);
        }
        let mut value = 0_usize;
        loop {
            let digit = match self.next()? {
                b'_' => return value.checked_add(1),
                digit @ b'0'..=b'9' => digit - b'0',
                digit @ b'a'..=b'z' => digit - b'a' + 10,
                digit @ b'A'..=b'Z' => digit - b'A' + 36,
                _ => return None,
            };
            value = value.checked_mul(62)?.checked_add(usize::from(digit))?;
        }
    }

    fn disambiguator(&mut self) -> Option<()> {
        if self.eat(b's') {
            self.base_62()?;
        }
        Some(())
    }

    fn identifier(&mut self) -> Option<&'a str> {
        self.disambiguator()?;
        self.plain_identifier()
    }

    fn plain_identifier(&mut self) -> Option<&'a str> {
        self.eat(b'u');
        let mut length = usize::from(self.next().filter(u8::is_ascii_digit)? - b'0');
        if length != 0 {
            while let Some(digit) = self.peek().filter(u8::is_ascii_digit) {
                length = length.checked_mul(10)?.checked_add(usize::from(digit - b'0'))?;
                self.at += 1;
            }
        }
        self.eat(b'_');
        let name = self.input.get(self.at..self.at.checked_add(length)?)?;
        self.at += length;
        Some(name)
    }

    /// Follows a reference to what came before; it must, or there would be no end.
    fn back_reference<R>(&mut self, f: impl FnOnce(&mut Self) -> Option<R>) -> Option<R> {
        let from = self.at - 1;
        let to = self.base_62()?;
        if to >= from {
            return None;
        }
        let behind = std::mem::replace(&mut self.at, to);
        let result = self.deeper(f);
        self.at = behind;
        result
    }

    /// The crate at the beginning of a path.
    fn path_crate(&mut self) -> Option<&'a str> {
        self.deeper(|p| match p.next()? {
            b'C' => p.identifier(),
            b'M' | b'X' => {
                p.disambiguator()?;
                p.path_crate()
            }
            // A method that the trait itself provides.
            b'Y' => {
                p.skip_type()?;
                p.path_crate()
            }
            b'N' => {
                p.next()?;
                p.path_crate()
            }
            b'I' => p.path_crate(),
            b'B' => p.back_reference(Self::path_crate),
            _ => None,
        })
    }

    fn skip_path(&mut self) -> Option<()> {
        self.deeper(|p| match p.next()? {
            b'C' => p.identifier().map(drop),
            b'M' => {
                p.disambiguator()?;
                p.skip_path()?;
                p.skip_type()
            }
            b'X' => {
                p.disambiguator()?;
                p.skip_path()?;
                p.skip_type()?;
                p.skip_path()
            }
            b'Y' => {
                p.skip_type()?;
                p.skip_path()
            }
            b'N' => {
                p.next()?;
                p.skip_path()?;
                p.identifier().map(drop)
            }
            b'I' => {
                p.skip_path()?;
                p.skip_until_end(Self::skip_generic_argument)
            }
            b'B' => p.base_62().map(drop),
            _ => None,
        })
    }

    fn skip_until_end(&mut self, item: impl Fn(&mut Self) -> Option<()>) -> Option<()> {
        while !self.eat(b'E') {
            item(self)?;
        }
        Some(())
    }

    fn skip_generic_argument(&mut self) -> Option<()> {
        if self.eat(b'L') {
            self.base_62().map(drop)
        } else if self.eat(b'K') {
            self.skip_const()
        } else {
            self.skip_type()
        }
    }

    fn skip_type(&mut self) -> Option<()> {
        self.deeper(|p| match p.peek()? {
            b'a'..=b'z' => p.next().map(drop),
            b'A' => {
                p.next();
                p.skip_type()?;
                p.skip_const()
            }
            b'S' | b'P' | b'O' => {
                p.next();
                p.skip_type()
            }
            b'R' | b'Q' => {
                p.next();
                p.skip_lifetime()?;
                p.skip_type()
            }
            b'T' => {
                p.next();
                p.skip_until_end(Self::skip_type)
            }
            b'F' => {
                p.next();
                p.skip_signature()
            }
            b'D' => {
                p.next();
                p.skip_binder()?;
                p.skip_until_end(Self::skip_dyn_trait)?;
                p.skip_lifetime()
            }
            b'B' => {
                p.next();
                p.base_62().map(drop)
            }
            _ => p.skip_path(),
        })
    }

    fn skip_lifetime(&mut self) -> Option<()> {
        if self.eat(b'L') {
            self.base_62()?;
        }
        Some(())
    }

    fn skip_binder(&mut self) -> Option<()> {
        if self.eat(b'G') {
            self.base_62()?;
        }
        Some(())
    }

    fn skip_signature(&mut self) -> Option<()> {
        self.skip_binder()?;
        self.eat(b'U');
        if self.eat(b'K') && !self.eat(b'C') {
            self.plain_identifier()?;
        }
        self.skip_until_end(Self::skip_type)?;
        self.skip_type()
    }

    fn skip_dyn_trait(&mut self) -> Option<()> {
        self.skip_path()?;
        while self.eat(b'p') {
            self.plain_identifier()?;
            self.skip_type()?;
        }
        Some(())
    }

    fn skip_const(&mut self) -> Option<()> {
        self.deeper(|p| match p.next()? {
            // A placeholder.
            b'p' => Some(()),
            b'B' => p.base_62().map(drop),
            b'R' | b'Q' => p.skip_const(),
            b'A' | b'T' => p.skip_until_end(Self::skip_const),
            b'V' => {
                p.skip_path()?;
                match p.next()? {
                    b'U' => Some(()),
                    b'T' => p.skip_until_end(Self::skip_const),
                    b'S' => p.skip_until_end(|p| {
                        p.identifier()?;
                        p.skip_const()
                    }),
                    _ => None,
                }
            }
            // A number, or a string: hexadecimal digits.
            b'a'..=b'z' => {
                p.eat(b'n');
                while p.next()? != b'_' {}
                Some(())
            }
            _ => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::defining_crate;

    #[test]
    fn plain_paths_begin_with_their_crate() {
        assert_eq!(defining_crate("_RNvCs7PWRiLK02Ug_3fib3fib"), Some("fib"));
        assert_eq!(defining_crate("_RNvNtCs7PWRiLK02Ug_3fib5inner4main"), Some("fib"));
        assert_eq!(defining_crate("_RNCNvCs7PWRiLK02Ug_3fib4main0B3_"), Some("fib"));
    }

    #[test]
    fn a_generic_function_belongs_to_who_wrote_it_and_not_to_who_uses_it() {
        let name = "_RINvNtCsgEmfK2I1SDS_4core10intrinsics11rotate_leftyECs7PWRiLK02Ug_3fib";
        assert_eq!(defining_crate(name), Some("core"));
    }

    #[test]
    fn an_implementation_belongs_to_the_crate_that_it_stands_in() {
        // <fib::W<T> as fib::Tr>::a and <alloc::string::String as fib::Tr>::a
        assert_eq!(defining_crate("_RNvXCs7PWRiLK02Ug_3fibINtB2_1WpENtB2_2Tr1a"), Some("fib"));
        let foreign = "_RNvXs0_CsAb_3fibNtNtCslN_5alloc6string6StringNtB3_2Tr1a";
        assert_eq!(defining_crate(foreign), Some("fib"));
        // <fib::Rng as rand_core::RngCore>::next_u32, written in fib; rand's own, for its ThreadRng.
        assert_eq!(defining_crate("_RNvXCs1_3fibNtB2_3RngNtCs2_9rand_core7RngCore8next_u32"), Some("fib"));
        let rand = "_RNvXs_NtNtCs3_4rand4rngs6threadNtB4_9ThreadRngNtCs2_9rand_core7RngCore8next_u32";
        assert_eq!(defining_crate(rand), Some("rand"));
        // An inherent one.
        let inherent = "_RNvMs6_NtCsgv_9hashbrown3rawINtB5_8RawTablemE7reserve";
        assert_eq!(defining_crate(inherent), Some("hashbrown"));
    }

    #[test]
    fn a_provided_method_belongs_to_the_trait() {
        // <(&str, [u8; 3], fn(i32) -> dyn Fn<(u8,), Output = u8> + '_) as fib::Tr>::b
        let name = "_RNvYTReAhj3_FlEDG_INtNtNtCs5_4core3ops8function2FnThEEp6OutputhEL_ENtCs7_3fib2Tr1b";
        assert_eq!(defining_crate(name), Some("fib"));
        assert_eq!(defining_crate("_RNvYeNtNtCsl_5alloc6borrow7ToOwned8to_ownedCs7_3fib"), Some("alloc"));
    }

    #[test]
    fn back_references_are_followed_backwards_only() {
        // <fib::A as fib::T>::m: the trait's path refers to the crate of the type.
        assert_eq!(defining_crate("_RNvYNtCs1_3fib1ANtB4_1T1m"), Some("fib"));
        assert_eq!(defining_crate("_RNvB2_3fib"), None);
        assert_eq!(defining_crate("_RNvBz_3fib"), None);
    }

    #[test]
    fn what_is_not_mangled_so_has_none() {
        for name in ["", "main", "_R", "_ZN3fib3fib17h7a8ad18fbe4daf19E", "_RNv", "_RNvC9", "_RNvC99fib", "_RI"] {
            assert_eq!(defining_crate(name), None, "{name}");
        }
        let deep = format!("_R{}", "I".repeat(100_000));
        assert_eq!(defining_crate(&deep), None);
    }
}
