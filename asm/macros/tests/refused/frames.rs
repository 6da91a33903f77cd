use morestack_macros::prologue;

struct Point(u32);

impl Point {
    #[prologue(frame = 4096)]
    fn x(&self) -> u32 {
        self.0
    }

    #[prologue(frame = 4096)]
    fn origin() -> Self {
        Point(0)
    }

    #[prologue(frame = 4096)]
    fn unit() -> Point {
        Self(1)
    }
}

#[prologue(frame = 4096)]
fn conditional(#[cfg(unix)] _x: u32) {}

fn main() {
    Point::origin().x();
    Point::unit();
}
