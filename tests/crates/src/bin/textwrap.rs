//! Paragraphs: wrapped by both algorithms, with separators, splitters and penalties of the program's own.

use textwrap::core::{Fragment, Word, display_width};
use textwrap::wrap_algorithms::{Penalties, wrap_first_fit, wrap_optimal_fit};
use textwrap::{
    Options, WordSeparator, WordSplitter, WrapAlgorithm, dedent, fill, indent, refill, unfill, wrap, wrap_columns,
};

use crates::source::Source;

#[derive(Debug)]
struct Job(f64);

impl Fragment for Job {
    fn width(&self) -> f64 {
        self.0
    }
    fn whitespace_width(&self) -> f64 {
        0.5
    }
    fn penalty_width(&self) -> f64 {
        0.0
    }
}

fn syllables(word: &str) -> Vec<usize> {
    word.char_indices().map(|(i, _)| i).skip(3).step_by(3).collect()
}

fn slashes(line: &str) -> Box<dyn Iterator<Item = Word<'_>> + '_> {
    Box::new(line.split_inclusive('/').map(Word::from))
}

fn run(seed: u64) -> String {
    let source = &mut Source::new(seed);
    let text = format!("{} extraordinarily-long-word {}", source.words(30), source.words(25));
    let mut out = String::new();
    for width in [12, 30, 55] {
        for algorithm in [WrapAlgorithm::FirstFit, WrapAlgorithm::new_optimal_fit()] {
            let options = Options::new(width)
                .initial_indent("* ")
                .subsequent_indent("  ")
                .wrap_algorithm(algorithm)
                .word_splitter(WordSplitter::Custom(syllables));
            out += &format!("{}\n--\n", fill(&text, options));
        }
    }
    let slashed = text.replace(' ', "/");
    let custom = wrap(&slashed, Options::new(25).word_separator(WordSeparator::Custom(slashes)));
    let jobs: Vec<Job> = (0..40).map(|_| Job(source.below(30) as f64 + 1.0)).collect();
    let first: Vec<usize> = wrap_first_fit(&jobs, &[50.0, 80.0]).iter().map(|line| line.len()).collect();
    let best: Vec<usize> =
        wrap_optimal_fit(&jobs, &[50.0, 80.0], &Penalties::new()).unwrap().iter().map(|line| line.len()).collect();
    let columns = wrap_columns(&text, 3, 70, "| ", " | ", " |").join("\n");
    let (plain, options) = unfill("> one two\n> three\n");
    let dented = dedent(&indent(&out[..out.find('\n').unwrap_or(0)], "    "));
    format!(
        "{out}{custom:?} {first:?} {best:?} {} {plain:?} {} {dented}\n{columns}\n{}",
        display_width(&text),
        options.width,
        refill(&plain, 4)
    )
}

fn main() {
    crates::main(crates::Threads::Many, run);
}
