//! The types of fields that are refused by their names, with what to use instead. The compiler
//! would refuse most of them, too, but cannot say that.

use syn::spanned::Spanned;
use syn::{Error, Result, Type};

pub(crate) fn check(ty: &Type) -> Result<()> {
    match remedy(ty) {
        Some((found, remedy)) => Err(Error::new(ty.span(), format!("{found}: {remedy}"))),
        None => Ok(()),
    }
}

const ADDRESS: &str = "an address means nothing in another process";

/// What is wrong with a type, and what to do.
fn remedy(ty: &Type) -> Option<(&'static str, &'static str)> {
    match ty {
        Type::Array(array) => remedy(&array.elem),
        Type::Group(group) => remedy(&group.elem),
        Type::Paren(paren) => remedy(&paren.elem),
        Type::Reference(_) | Type::Ptr(_) => Some((ADDRESS, "use the value itself, or an index")),
        Type::FnPtr(_) => Some((ADDRESS, "use an enum that says which function")),
        Type::Tuple(tuple) if !tuple.elems.is_empty() => {
            Some(("the fields of a tuple have no fixed order", "use a struct of these that derives `Shareable`"))
        }
        Type::Path(path) => match path.path.segments.last()?.ident.to_string().as_str() {
            "usize" => Some(("`usize` has another size in other programs", "use a `u64`")),
            "isize" => Some(("`isize` has another size in other programs", "use an `i64`")),
            "Box" | "Rc" | "Arc" => Some((ADDRESS, "use the value itself, or an index")),
            "String" | "Vec" => Some((
                "its contents are elsewhere in memory",
                "use a length and an array such as `[u8; 64]`, or send byte messages",
            )),
            "Option" => Some(("nothing says what `None` looks like", "use a `bool` and a value")),
            _ => None,
        },
        _ => None,
    }
}
