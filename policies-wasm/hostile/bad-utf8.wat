;; Refuses with a message that is no UTF-8.
;; hooks: request
(data (i32.const 4096) "\ff\fe\c0")
(func $on-request (param $args i32) (result i32)
  (if (call $is-smoke (local.get $args)) (then (return (i32.const 512))))
  (i32.store8 (i32.const 640) (i32.const 2))
  (i32.store (i32.const 644) (i32.const 4096))
  (i32.store (i32.const 648) (i32.const 3))
  (i32.const 640))
