;; Gives its host memory that it does not have.
;; hooks: request
(func $realloc (param i32 i32 i32 i32) (result i32) (i32.const -64))
