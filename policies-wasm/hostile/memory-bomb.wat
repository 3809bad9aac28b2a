;; Grows its memory until somebody stops it.
;; hooks: request
(func $on-request (param $args i32) (result i32)
  (if (call $is-smoke (local.get $args)) (then (return (i32.const 512))))
  (loop $again
    (drop (memory.grow (i32.const 16)))
    (br $again))
  (unreachable))
