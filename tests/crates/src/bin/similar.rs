//! Differences: by all algorithms, of lines, words and values; ratios, unified texts, hooks of the program's own.

use similar::{Algorithm, ChangeTag, DiffOp, TextDiff, capture_diff_slices};

use crates::source::Source;

#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
enum Tree {
    Leaf(u64),
    Node(Vec<Tree>),
}

fn tree(source: &mut Source, depth: u64) -> Tree {
    if depth == 0 || source.below(3) == 0 {
        Tree::Leaf(source.below(4))
    } else {
        Tree::Node((0..source.below(3)).map(|_| tree(source, depth - 1)).collect())
    }
}

fn run(seed: u64) -> String {
    let source = &mut Source::new(seed);
    let old: Vec<String> = (0..40).map(|_| source.words(3)).collect();
    let mut new = old.clone();
    for _ in 0..12 {
        let at = source.below(new.len() as u64) as usize;
        match source.below(3) {
            0 => _ = new.remove(at),
            1 => new.insert(at, source.words(2)),
            _ => new[at] = new[at].replace('a', "o"),
        }
    }
    let (old, new) = (old.join("\n"), new.join("\n"));
    let trees: [Vec<Tree>; 2] = [0, 1].map(|_| (0..30).map(|_| tree(source, 3)).collect());
    let mut out = String::new();
    for algorithm in [Algorithm::Myers, Algorithm::Patience, Algorithm::Lcs] {
        let diff = TextDiff::configure().algorithm(algorithm).diff_lines(&old, &new);
        let mut counts = [0; 3];
        diff.iter_all_changes().for_each(|change| {
            counts[match change.tag() {
                ChangeTag::Equal => 0,
                ChangeTag::Insert => 1,
                ChangeTag::Delete => 2,
            }] += change.value().len();
        });
        let inline: Vec<usize> = diff
            .ops()
            .iter()
            .flat_map(|op| diff.iter_inline_changes(op).collect::<Vec<_>>())
            .map(|change| change.iter_strings_lossy().filter(|(emphasized, _)| *emphasized).count())
            .collect();
        let ops = capture_diff_slices(algorithm, &trees[0], &trees[1]);
        let equal: usize = ops.iter().map(|op| if let DiffOp::Equal { len, .. } = op { *len } else { 0 }).sum();
        out += &format!(
            "{counts:?} {:.4} {inline:?} {equal}\n{}",
            diff.ratio(),
            diff.unified_diff().context_radius(1).header("old", "new")
        );
    }
    let words = TextDiff::from_words(&old, &new).ops().len();
    format!(
        "{out}{words} {}",
        TextDiff::from_chars(old.lines().next().unwrap_or(""), new.lines().last().unwrap_or("")).grouped_ops(2).len()
    )
}

fn main() {
    crates::main(crates::Threads::Many, run);
}
