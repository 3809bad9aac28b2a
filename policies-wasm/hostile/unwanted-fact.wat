;; Asks for a fact that it did not say it wants.
;; hooks: request
(import "portcullis:policy/facts@0.1.0" "get-usage" (func $usage (param i32)))
(func $on-request (param $args i32) (result i32)
  (if (call $is-smoke (local.get $args)) (then (return (i32.const 512))))
  (call $usage (i32.const 640))
  (i32.const 512))
