;; Allows with more warnings than its memory has bytes.
;; hooks: request
(func $on-request (param $args i32) (result i32)
  (if (call $is-smoke (local.get $args)) (then (return (i32.const 512))))
  (i32.store8 (i32.const 640) (i32.const 1))
  (i32.store (i32.const 644) (i32.const 16384))
  (i32.store (i32.const 648) (i32.const -1))
  (i32.const 640))
