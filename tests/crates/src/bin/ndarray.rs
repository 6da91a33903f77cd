//! Arrays: views, broadcasts, products, folds along axes, closures over zips.

use ndarray::{Array, Array2, ArrayD, ArrayView2, Axis, IxDyn, Zip, array, concatenate, s};

use crates::source::Source;

/// The determinant, by minors.
fn determinant(m: ArrayView2<i64>) -> i64 {
    if m.nrows() == 1 {
        return m[[0, 0]];
    }
    (0..m.ncols())
        .map(|j| {
            let minor = concatenate![Axis(1), m.slice(s![1.., ..j]), m.slice(s![1.., j + 1..])];
            let sign = if j % 2 == 0 { 1 } else { -1 };
            sign * m[[0, j]] * determinant(minor.view())
        })
        .sum()
}

fn run(seed: u64) -> String {
    let source = &mut Source::new(seed);
    let a = Array2::from_shape_fn((5, 5), |_| source.below(10) as i64 - 4);
    let b = Array::from_shape_fn((5, 3), |(i, j)| (i * 3 + j) as i64);
    let product = a.dot(&b);
    let mut most = i64::MIN;
    let summed = Zip::from(&product).and(&b).and_broadcast(&array![1, 0, -1]).map_collect(|x, y, z| {
        most = most.max(*x);
        x * 2 - y + z
    });
    let folded = summed.fold_axis(Axis(0), 0i64, |sum, x| sum * 3 + x);
    let mapped = a.map_axis(Axis(1), |row| row.iter().copied().max_by_key(|x| x.abs()).unwrap());
    let mut view = ArrayD::from_shape_vec(IxDyn(&[2, 3, 4]), (0..24).collect::<Vec<i64>>()).unwrap();
    view.swap_axes(0, 2);
    view.slice_each_axis_inplace(|axis| ndarray::Slice::new(0, None, if axis.axis.index() == 1 { -1 } else { 1 }));
    let windows = a.windows((2, 2)).into_iter().filter(|w| w.sum() > 0).count();
    let mut sorted: Vec<Vec<i64>> = a.rows().into_iter().map(|row| row.to_vec()).collect();
    sorted.sort_by(|x, y| y.iter().sum::<i64>().cmp(&x.iter().sum()).then_with(|| x.cmp(y)));
    let bad = Array2::<i64>::from_shape_vec((2, 2), vec![1, 2, 3]).unwrap_err();
    let panicked = std::panic::catch_unwind(|| a.dot(&array![[1i64, 2]]).len());
    format!(
        "{summed}\n{folded} {mapped} {most} {windows} {}\n{view:?}\n{sorted:?} {bad} {}",
        determinant(a.view()),
        panicked.is_err()
    )
}

fn main() {
    crates::main(crates::Threads::Many, run);
}
