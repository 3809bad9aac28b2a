//! The names that an expression reads and does not bind itself: a misspelt one is told when settings are checked, and not
//! at the first push.

use cel::common::ast::{EntryExpr, Expr};

/// CEL's own names of types.
const TYPES: &[&str] = &["bool", "bytes", "double", "int", "list", "map", "null_type", "string", "type", "uint"];

/// Adds the names that `expression` reads, less those in `bound`.
pub fn free(expression: &Expr, bound: &mut Vec<String>, found: &mut Vec<String>) {
    match expression {
        Expr::Unspecified | Expr::Literal(_) => {}
        Expr::Ident(name) => {
            if !bound.contains(name) && !found.contains(name) && !TYPES.contains(&name.as_str()) {
                found.push(name.clone());
            }
        }
        Expr::Select(select) => free(&select.operand.expr, bound, found),
        Expr::List(list) => list.elements.iter().for_each(|element| free(&element.expr, bound, found)),
        Expr::Map(map) => map.entries.iter().for_each(|entry| in_entry(&entry.expr, bound, found)),
        Expr::Struct(made) => made.entries.iter().for_each(|entry| in_entry(&entry.expr, bound, found)),
        Expr::Call(call) => {
            let all = call.target.as_deref().into_iter().chain(&call.args);
            all.for_each(|part| free(&part.expr, bound, found));
        }
        Expr::Comprehension(each) => {
            free(&each.iter_range.expr, bound, found);
            free(&each.accu_init.expr, bound, found);
            let outside = bound.len();
            bound.extend([&each.iter_var, &each.accu_var].into_iter().chain(&each.iter_var2).cloned());
            for part in [&each.loop_cond, &each.loop_step, &each.result] {
                free(&part.expr, bound, found);
            }
            bound.truncate(outside);
        }
    }
}

fn in_entry(entry: &EntryExpr, bound: &mut Vec<String>, found: &mut Vec<String>) {
    match entry {
        EntryExpr::StructField(field) => free(&field.value.expr, bound, found),
        EntryExpr::MapEntry(entry) => {
            free(&entry.key.expr, bound, found);
            free(&entry.value.expr, bound, found);
        }
    }
}
