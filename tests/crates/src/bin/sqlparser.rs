//! SQL in several dialects: parsed, visited and changed, printed, and parsed again.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use sqlparser::ast::{Expr, Value, visit_expressions, visit_expressions_mut, visit_relations};
use sqlparser::dialect::{Dialect, GenericDialect, MySqlDialect, PostgreSqlDialect, SQLiteDialect};
use sqlparser::parser::Parser;

use crates::source::{Source, hash};

fn condition(source: &mut Source, depth: u64) -> String {
    let n = source.below(1000);
    match source.below(if depth == 0 { 2 } else { 6 }) {
        0 => format!("a.x{} > {n}", n % 7),
        1 => format!("name LIKE 'it''s {n}%'"),
        2 => format!("({} AND {})", condition(source, depth - 1), condition(source, depth - 1)),
        3 => format!("NOT ({} OR y IS NOT NULL)", condition(source, depth - 1)),
        4 => format!("EXISTS (SELECT 1 FROM t{n} AS a WHERE {})", condition(source, depth - 1)),
        _ => format!("CASE WHEN {} THEN a.b + {n} * 2 ELSE -c END BETWEEN 1 AND {n}", condition(source, depth - 1)),
    }
}

fn run(seed: u64) -> String {
    let source = &mut Source::new(seed);
    let dialects: [&dyn Dialect; 4] = [&GenericDialect {}, &PostgreSqlDialect {}, &MySqlDialect {}, &SQLiteDialect {}];
    let mut out = String::new();
    for dialect in dialects {
        let sql = format!(
            "WITH r AS (SELECT id, COUNT(*) AS n FROM a GROUP BY id HAVING COUNT(*) > 3) \
             SELECT DISTINCT a.id, r.n, SUM(p) OVER (PARTITION BY k ORDER BY d DESC) FROM a LEFT JOIN r ON a.id = r.id \
             WHERE {} ORDER BY 1, r.n DESC LIMIT 10; \
             INSERT INTO s (a, b) VALUES (1, 'x'), (2, NULL); UPDATE u SET v = v + 1 WHERE {}; \
             CREATE TABLE z (id INT PRIMARY KEY, d DECIMAL(10, 2) DEFAULT 0.5 NOT NULL, FOREIGN KEY (id) REFERENCES a (id))",
            condition(source, 4),
            condition(source, 3),
        );
        let mut statements = Parser::parse_sql(dialect, &sql).unwrap();
        let (mut tables, mut expressions) = (BTreeSet::new(), 0);
        let _: ControlFlow<()> = visit_relations(&statements, |name| {
            tables.insert(name.to_string());
            ControlFlow::Continue(())
        });
        let _: ControlFlow<()> = visit_expressions(&statements, |_| {
            expressions += 1;
            ControlFlow::Continue(())
        });
        let _: ControlFlow<()> = visit_expressions_mut(&mut statements, |expression| {
            if let Expr::Value(value) = expression
                && let Value::Number(number, _) = &mut value.value
            {
                *number = format!("{}{expressions}", number.trim_start_matches('0')).replace('.', "");
            }
            ControlFlow::Continue(())
        });
        let printed: Vec<String> = statements.iter().map(ToString::to_string).collect();
        assert_eq!(Parser::parse_sql(dialect, &printed.join("; ")).unwrap(), statements);
        let error = Parser::parse_sql(dialect, &sql.replace("LEFT JOIN", "LEFT")).unwrap_err();
        out += &format!(
            "{tables:?} {expressions} {error} {:x}\n{}\n",
            hash(format!("{statements:?}").as_bytes()),
            printed[0]
        );
    }
    let deep = format!("SELECT {}1{}", "(".repeat(200), ")".repeat(200));
    format!("{out}{}", Parser::parse_sql(&GenericDialect {}, &deep).unwrap_err())
}

fn main() {
    crates::main(crates::Threads::Many, run);
}
