//! Linear algebra: decompositions of small matrices on the stack and of large ones, rotations, solving.

use nalgebra::{DMatrix, DVector, Isometry3, Matrix4, Point3, SMatrix, Translation3, UnitQuaternion, Vector3};

use crates::source::{Source, hash};

fn run(seed: u64) -> String {
    let source = &mut Source::new(seed);
    let mut number = || (source.below(2000) as f64 - 1000.0) / 64.0;
    let small = Matrix4::from_fn(|_, _| number());
    let inverse = small.try_inverse().map_or(0.0, |inverse| (inverse * small).trace());
    let large = DMatrix::from_fn(7, 7, |_, _| number());
    let symmetric = &large * large.transpose() + DMatrix::identity(7, 7);
    let eigen = symmetric.clone().symmetric_eigen();
    let svd = large.clone().svd(true, true);
    let recomposed = (svd.clone().recompose().unwrap() - &large).norm() < 1e-9;
    let solved = large.clone().lu().solve(&DVector::from_fn(7, |i, _| i as f64)).map(|x| (&large * x)[6].round());
    let cholesky = symmetric.cholesky().map(|c| c.determinant());
    let qr = SMatrix::<f64, 5, 3>::from_fn(|_, _| number()).qr();
    let axis = nalgebra::Unit::new_normalize(Vector3::new(number(), number(), 1.0));
    let moved = (0..20).fold(Point3::new(1.0, 2.0, 3.0), |point, i| {
        let isometry = Isometry3::from_parts(
            Translation3::new(0.5, f64::from(i), -1.0),
            UnitQuaternion::from_axis_angle(&axis, 0.1),
        );
        isometry * point
    });
    let mut columns: Vec<(usize, f64)> = large.column_iter().map(|c| c.norm()).enumerate().collect();
    columns.sort_by(|a, b| b.1.total_cmp(&a.1));
    let sum: f64 = large.row_iter().map(|row| row.iter().zip(&qr.r()).map(|(a, b)| a * b).sum::<f64>()).sum();
    format!(
        "{inverse:.6} {:.6} {recomposed} {solved:?} {cholesky:?} {moved} {columns:?} {sum:?} {:x}",
        eigen.eigenvalues,
        hash(format!("{:?}", svd.singular_values).as_bytes())
    )
}

fn main() {
    crates::main(crates::Threads::Many, run);
}
