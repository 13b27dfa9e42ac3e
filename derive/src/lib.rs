//! The derive macro of tombolo. Use it as `tombolo::Shareable`.

#![deny(unsafe_code, missing_docs)]

mod field;

use proc_macro2::TokenStream;
use quote::{ToTokens, quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{Data, DataEnum, DataStruct, DeriveInput, Error, Fields, Ident, LitStr, Meta, Path, Result, Token};
use syn::{parse_macro_input, punctuated::Punctuated};

/// Makes values of a struct or an enum `Shareable`.
///
/// A struct needs `#[repr(C)]` or `#[repr(transparent)]`, fields that are `Shareable`, and no
/// padding. An enum needs a representation such as `#[repr(u8)]`, and no fields. Both need `Clone`
/// and `Copy`. See the trait of the same name.
///
/// `#[shareable(crate = "path")]` says where tombolo is, if not at `::tombolo`: for a crate that
/// re-exports it.
///
/// A field is refused with advice by the last name of its type, such as `Box` or `Vec`, whatever
/// crate or module that is from. So a type of yours with such a name needs another one.
#[proc_macro_derive(Shareable, attributes(shareable))]
pub fn shareable(input: proc_macro::TokenStream) -> proc_macro::TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    let tombolo = crate_path(&input);
    let expanded = tombolo.clone().and_then(|tombolo| expand(&input, &tombolo));
    expanded.unwrap_or_else(|error| placeholder(&input, tombolo.ok(), &error)).into()
}

/// The path to tombolo.
fn crate_path(input: &DeriveInput) -> Result<TokenStream> {
    let mut found = quote!(::tombolo);
    for attribute in input.attrs.iter().filter(|attribute| attribute.path().is_ident("shareable")) {
        attribute.parse_nested_meta(|meta| {
            if !meta.path.is_ident("crate") {
                return Err(meta.error("write `#[shareable(crate = \"path\")]`: there is nothing else to say"));
            }
            let path: LitStr = meta.value()?.parse()?;
            found = path.parse_with(Path::parse_mod_style)?.into_token_stream();
            Ok(())
        })?;
    }
    Ok(found)
}

/// An error, and an implementation that is never used, since the program does not compile. Without
/// it each use of the type would be an error, too, and those would hide the one that counts.
fn placeholder(input: &DeriveInput, tombolo: Option<TokenStream>, error: &Error) -> TokenStream {
    let (error, name) = (error.to_compile_error(), &input.ident);
    let tombolo = tombolo.unwrap_or_else(|| quote!(::tombolo));
    let (parameters, arguments, bounds) = input.generics.split_for_impl();
    // Otherwise a parameter that is not `Copy` would be an error of its own.
    let bounds = match input.generics.params.is_empty() {
        true => quote!(),
        false => bounds.map_or_else(
            || quote!(where Self: ::core::marker::Copy + 'static),
            |bounds| {
                let bounds = &bounds.predicates;
                quote!(where Self: ::core::marker::Copy + 'static, #bounds)
            },
        ),
    };
    quote! {
        #error

        // SAFETY: it is never used.
        #[automatically_derived]
        #[allow(deprecated)]
        unsafe impl #parameters #tombolo::Shareable for #name #arguments #bounds {
            type Bits = ();

            const SHAPE: &'static #tombolo::types::Shape = &#tombolo::types::Shape::Any;
            const ANY_BITS: bool = false;

            fn is_valid(_: &Self::Bits) -> bool {
                false
            }
        }
    }
}

fn expand(input: &DeriveInput, tombolo: &TokenStream) -> Result<TokenStream> {
    if let Some(parameter) = input.generics.params.first() {
        let text = "a type with parameters has no name of its own in a region: derive `Shareable` for a type without";
        return Err(Error::new(parameter.span(), text));
    }
    let words = representation(input)?;
    match &input.data {
        Data::Struct(data) => expand_struct(&input.ident, data, &words, tombolo),
        Data::Enum(data) => expand_enum(&input.ident, data, &words, tombolo),
        Data::Union(data) => {
            let text = "the bytes of a union do not say which field they are: use a struct";
            Err(Error::new(data.union_token.span, text))
        }
    }
}

/// The words of the `repr` attributes, such as `C` and `align`.
fn representation(input: &DeriveInput) -> Result<Vec<Ident>> {
    let mut words = Vec::new();
    for attribute in input.attrs.iter().filter(|attribute| attribute.path().is_ident("repr")) {
        for meta in attribute.parse_args_with(Punctuated::<Meta, Token![,]>::parse_terminated)? {
            words.extend(meta.path().get_ident().cloned());
        }
    }
    Ok(words)
}

fn expand_struct(name: &Ident, data: &DataStruct, words: &[Ident], tombolo: &TokenStream) -> Result<TokenStream> {
    if let Some(packed) = words.iter().find(|word| *word == "packed") {
        let text = "remove `packed`: a struct without padding needs none, and one with padding needs a field instead";
        return Err(Error::new(packed.span(), text));
    }
    if !words.iter().any(|word| word == "C" || word == "transparent") {
        let text =
            "write `#[repr(C)]` above the struct: without it other programs may have the fields in another order";
        return Err(Error::new(name.span(), text));
    }
    for field in &data.fields {
        field::check(&field.ty)?;
    }
    let types: Vec<_> = data.fields.iter().map(|field| &field.ty).collect();
    let members: Vec<_> = data.fields.members().collect();
    let names: Vec<_> = members.iter().map(text).collect();
    let offsets: Vec<_> = members.iter().map(|member| quote!(::core::mem::offset_of!(#name, #member))).collect();
    // A type that is not `Shareable` is then reported where it stands.
    let shapes = types.iter().map(|ty| quote_spanned!(ty.span()=> <#ty as #tombolo::Shareable>::SHAPE));
    let any_bits = types.iter().map(|ty| quote_spanned!(ty.span()=> <#ty as #tombolo::Shareable>::ANY_BITS));
    let are_valid = types
        .iter()
        .zip(&offsets)
        .map(|(ty, offset)| quote_spanned!(ty.span()=> #tombolo::types::is_field_valid::<#ty>(bits, #offset)));
    let text = text(name);
    Ok(quote! {
        #[allow(deprecated)]
        const _: () = #tombolo::types::check_layout(
            #text,
            &[#((#names, #offsets, ::core::mem::size_of::<#types>())),*],
            ::core::mem::size_of::<#name>(),
            ::core::mem::align_of::<#name>(),
        );

        // SAFETY: the fields are `Shareable`, and `check_layout` finds no padding.
        #[automatically_derived]
        #[allow(deprecated)]
        unsafe impl #tombolo::Shareable for #name {
            type Bits = [u8; ::core::mem::size_of::<#name>()];

            const SHAPE: &'static #tombolo::types::Shape =
                &#tombolo::types::Shape::Struct { name: #text, fields: &[#((#names, #shapes)),*] };
            const ANY_BITS: bool = true #(&& #any_bits)*;

            #[inline]
            fn is_valid(bits: &Self::Bits) -> bool {
                let _ = bits;
                true #(&& #are_valid)*
            }
        }
    })
}

fn expand_enum(name: &Ident, data: &DataEnum, words: &[Ident], tombolo: &TokenStream) -> Result<TokenStream> {
    const NUMBERS: [&str; 8] = ["u8", "u16", "u32", "u64", "i8", "i16", "i32", "i64"];

    if let Some(variant) = data.variants.iter().find(|variant| !matches!(variant.fields, Fields::Unit)) {
        let text =
            "a variant with fields cannot be shared: use a struct that has an enum without fields and the fields";
        return Err(Error::new(variant.span(), text));
    }
    if data.variants.is_empty() {
        return Err(Error::new(name.span(), "an enum without variants has no values to share"));
    }
    let Some(number) = words.iter().find(|word| NUMBERS.iter().any(|number| word == number)) else {
        let text = "write `#[repr(u8)]` above the enum: without it other programs may have it in another size";
        return Err(Error::new(name.span(), text));
    };
    let variants: Vec<_> = data.variants.iter().map(|variant| &variant.ident).collect();
    let names = variants.iter().map(text);
    let (text, number_text) = (text(name), text(number));
    Ok(quote! {
        const _: () = ::core::assert!(
            ::core::mem::size_of::<#name>() == ::core::mem::size_of::<#number>(),
            "an enum with `align` has padding: remove it, or align a struct that has the enum"
        );

        // SAFETY: it is one of these numbers, and as large.
        #[automatically_derived]
        #[allow(deprecated)]
        unsafe impl #tombolo::Shareable for #name {
            type Bits = #number;

            const SHAPE: &'static #tombolo::types::Shape = &#tombolo::types::Shape::Enum {
                name: #text,
                number: #number_text,
                variants: &[#((#names, #name::#variants as i128)),*],
            };
            const ANY_BITS: bool = false;

            #[inline]
            fn is_valid(bits: &#number) -> bool {
                [#(#name::#variants as #number),*].contains(bits)
            }
        }
    })
}

/// A name as it stands in a region.
fn text(name: impl ToTokens) -> String {
    name.to_token_stream().to_string().trim_start_matches("r#").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(input: &str) -> String {
        expand(&syn::parse_str(input).unwrap(), &quote!(::tombolo)).unwrap_err().to_string()
    }

    #[test]
    fn derive_for_what_cannot_be_shared_says_what_to_do() {
        for (input, says) in [
            ("struct A { a: u8 }", "write `#[repr(C)]` above the struct"),
            ("#[repr(C, packed)] struct A { a: u8 }", "remove `packed`"),
            ("#[repr(C)] struct A<T> { a: T }", "a type with parameters"),
            ("#[repr(C)] struct A<'a> { a: &'a u8 }", "a type with parameters"),
            ("#[repr(C)] union A { a: u8, b: i8 }", "use a struct"),
            ("enum A { B }", "write `#[repr(u8)]` above the enum"),
            ("#[repr(C)] enum A { B }", "write `#[repr(u8)]` above the enum"),
            ("#[repr(u8)] enum A { B, C(u8) }", "use a struct that has an enum without fields"),
            ("#[repr(u8)] enum A {}", "without variants"),
            ("#[repr(C)] struct A { a: usize }", "use a `u64`"),
            ("#[repr(C)] struct A { a: [core::primitive::isize; 4] }", "use an `i64`"),
            ("#[repr(C)] struct A { a: &'static str }", "use the value itself"),
            ("#[repr(C)] struct A { a: *const u8 }", "use the value itself"),
            ("#[repr(C)] struct A { a: Box<u8> }", "use the value itself"),
            ("#[repr(C)] struct A { a: fn() }", "use an enum"),
            ("#[repr(C)] struct A(String);", "use a length and an array such as `[u8; 64]`"),
            ("#[repr(C)] struct A { a: std::vec::Vec<u8> }", "use a length and an array"),
            ("#[repr(C)] struct A { a: Option<u8> }", "use a `bool` and a value"),
            ("#[repr(C)] struct A { a: (u8, u8) }", "use a struct of these that derives `Shareable`"),
        ] {
            let error = error(input);
            assert!(error.contains(says), "{input}: {error}");
        }
    }

    #[test]
    fn derive_for_struct_and_enum_names_fields_and_variants() {
        let expanded = |input: &str| {
            expand(&syn::parse_str(input).unwrap(), &quote!(::tombolo)).unwrap().to_string().replace(' ', "")
        };
        let named = expanded("#[repr(C, align(64))] struct A { r#type: u8, b: [bool; 63] }");
        assert!(named.contains(r#"name:"A",fields:&[("type",<u8as::tombolo::Shareable>::SHAPE),("b","#), "{named}");
        let unnamed = expanded("#[repr(transparent)] struct A(u8);");
        assert!(unnamed.contains(r#"fields:&[("0",<u8as"#), "{unnamed}");
        let number = expanded("#[repr(i16)] enum A { B = -1, C }");
        assert!(number.contains(r#"number:"i16",variants:&[("B",A::Basi128),("C",A::Casi128)]"#), "{number}");
    }
    #[test]
    fn derive_with_crate_path_uses_no_other() {
        for input in [
            "#[repr(C)] #[shareable(crate = \"crate::inner::tombolo\")] struct A { a: u8, b: bool }",
            "#[repr(u8)] #[shareable(crate = \"crate::inner::tombolo\")] enum A { B }",
            "#[shareable(crate = \"crate::inner::tombolo\")] struct A { a: u8 }",
        ] {
            let input = syn::parse_str(input).unwrap();
            let path = crate_path(&input).unwrap();
            let expanded = expand(&input, &path).unwrap_or_else(|error| placeholder(&input, Some(path), &error));
            let expanded = expanded.to_string().replace(' ', "");
            assert!(expanded.contains("unsafeimplcrate::inner::tombolo::ShareableforA"), "{expanded}");
            assert!(!expanded.replace("inner::tombolo", "").contains("::tombolo"), "{expanded}");
        }
        for (input, says) in [
            ("#[shareable(name = \"b\")] struct A;", "write `#[shareable(crate = \"path\")]`"),
            ("#[shareable(crate = 1)] struct A;", "expected string literal"),
            ("#[shareable(crate)] struct A;", "expected `=`"),
        ] {
            let error = crate_path(&syn::parse_str(input).unwrap()).unwrap_err().to_string();
            assert!(error.contains(says), "{input}: {error}");
        }
    }

    #[test]
    fn derive_that_fails_still_implements_the_trait() {
        for (input, says) in [
            ("struct A { a: u8 }", "unsafeimpl::tombolo::ShareableforA{"),
            ("#[repr(C)] struct A<T: Clone> { a: T }", "ShareableforA<T>whereSelf:::core::marker::Copy+'static{"),
            (
                "#[repr(C)] struct A<'a, T> where T: Clone { a: &'a T }",
                "ShareableforA<'a,T>whereSelf:::core::marker::Copy+'static,T:Clone{",
            ),
        ] {
            let input = syn::parse_str(input).unwrap();
            let error = expand(&input, &quote!(::tombolo)).unwrap_err();
            let expanded = placeholder(&input, None, &error).to_string().replace(' ', "");
            assert!(expanded.contains("compile_error!") && expanded.contains(says), "{expanded}");
        }
    }
}
