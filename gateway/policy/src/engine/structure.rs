//! What a component is made of, counted before anything is compiled: sizes, numbers and nesting are capped.

use crate::error::LoadError;
use crate::limits::StructureLimits;
use wasmparser::{BinaryReaderError, FunctionBody, Operator, Parser, Payload, TypeRef};

/// Reads the whole component once, with a stack of its own.
pub(super) fn check(bytes: &[u8], limits: &StructureLimits) -> Result<(), LoadError> {
    let mut counted = Counted { limits, functions: 0, types: 0, modules: 0, items: 0, depth: 0, memories: 0 };
    for payload in Parser::new(0).parse_all(bytes) {
        counted.payload(&payload.map_err(malformed)?)?;
    }
    Ok(())
}

struct Counted<'a> {
    limits: &'a StructureLimits,
    functions: u32,
    types: u32,
    modules: u32,
    items: u32,
    depth: u32,
    /// Of the module that is being read.
    memories: u32,
}

impl Counted<'_> {
    fn payload(&mut self, payload: &Payload<'_>) -> Result<(), LoadError> {
        match payload {
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => {
                self.depth = add(self.depth, 1, self.limits.depth, "levels of nested components")?;
                self.modules = add(self.modules, 1, self.limits.modules, "modules and components")?;
            }
            Payload::Version { .. } => self.memories = 0,
            Payload::End(_) => self.depth = self.depth.saturating_sub(1),
            Payload::CodeSectionStart { count, .. } => {
                self.functions = add(self.functions, *count, self.limits.functions, "functions")?;
            }
            Payload::CodeSectionEntry(body) => self.body(body)?,
            Payload::TypeSection(section) => self.core_types(section)?,
            Payload::CoreTypeSection(section) => self.types(section.count())?,
            Payload::ComponentTypeSection(section) => self.component_types(section)?,
            Payload::ImportSection(section) => {
                self.items(section.count())?;
                for import in section.clone().into_imports() {
                    self.memories(u32::from(matches!(import.map_err(malformed)?.ty, TypeRef::Memory(_))))?;
                }
            }
            Payload::FunctionSection(section) => self.items(section.count())?,
            Payload::TableSection(section) => self.items(section.count())?,
            Payload::MemorySection(section) => {
                self.items(section.count())?;
                self.memories(section.count())?;
            }
            Payload::TagSection(section) => self.items(section.count())?,
            Payload::GlobalSection(section) => self.items(section.count())?,
            Payload::ExportSection(section) => self.items(section.count())?,
            Payload::ElementSection(section) => self.items(section.count())?,
            Payload::DataSection(section) => self.items(section.count())?,
            Payload::InstanceSection(section) => self.items(section.count())?,
            Payload::ComponentInstanceSection(section) => self.items(section.count())?,
            Payload::ComponentAliasSection(section) => self.items(section.count())?,
            Payload::ComponentCanonicalSection(section) => self.items(section.count())?,
            Payload::ComponentImportSection(section) => self.items(section.count())?,
            Payload::ComponentExportSection(section) => self.items(section.count())?,
            _ => {}
        }
        Ok(())
    }

    fn types(&mut self, count: u32) -> Result<(), LoadError> {
        self.types = add(self.types, count, self.limits.types, "types")?;
        Ok(())
    }

    /// A group of types that refer to each other counts as many.
    fn core_types(&mut self, section: &wasmparser::TypeSectionReader<'_>) -> Result<(), LoadError> {
        self.types(section.count())?;
        for group in section.clone() {
            let more = group.map_err(malformed)?.types().len().saturating_sub(1);
            self.types(u32::try_from(more).unwrap_or(u32::MAX))?;
        }
        Ok(())
    }

    /// A component's type may hold declarations of its own: they are counted with it.
    fn component_types(&mut self, section: &wasmparser::ComponentTypeSectionReader<'_>) -> Result<(), LoadError> {
        self.types(section.count())?;
        for ty in section.clone() {
            let inside = match ty.map_err(malformed)? {
                wasmparser::ComponentType::Component(declarations) => declarations.len(),
                wasmparser::ComponentType::Instance(declarations) => declarations.len(),
                _ => 0,
            };
            self.types(u32::try_from(inside).unwrap_or(u32::MAX))?;
        }
        Ok(())
    }

    fn memories(&mut self, count: u32) -> Result<(), LoadError> {
        self.memories = add(self.memories, count, 1, "memories in one module")?;
        Ok(())
    }

    fn items(&mut self, count: u32) -> Result<(), LoadError> {
        self.items = add(self.items, count, self.limits.items, "items")?;
        Ok(())
    }

    fn body(&self, body: &FunctionBody<'_>) -> Result<(), LoadError> {
        let bytes = u32::try_from(body.range().len()).unwrap_or(u32::MAX);
        add(0, bytes, self.limits.body_bytes, "bytes in one function")?;
        let mut locals = 0;
        for group in body.get_locals_reader().map_err(malformed)? {
            locals = add(locals, group.map_err(malformed)?.0, self.limits.locals, "locals in one function")?;
        }
        let mut depth = 0_u32;
        for operator in body.get_operators_reader().map_err(malformed)? {
            match operator.map_err(malformed)? {
                Operator::Block { .. } | Operator::Loop { .. } | Operator::If { .. } | Operator::TryTable { .. } => {
                    depth = add(depth, 1, self.limits.blocks, "levels of nested blocks")?;
                }
                Operator::End => depth = depth.saturating_sub(1),
                _ => {}
            }
        }
        Ok(())
    }
}

fn add(so_far: u32, more: u32, limit: u32, what: &str) -> Result<u32, LoadError> {
    let sum = so_far.saturating_add(more);
    if sum > limit { Err(LoadError::Structure { what: format!("{sum} {what}"), limit }) } else { Ok(sum) }
}

fn malformed(error: BinaryReaderError) -> LoadError {
    LoadError::Malformed(crate::text::plain(&error.to_string(), 512))
}
