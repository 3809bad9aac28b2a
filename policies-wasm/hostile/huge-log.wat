;; Logs one line of a mebibyte.
;; hooks: request
(import "portcullis:policy/host@0.1.0" "log" (func $log (param i32 i32 i32)))
(func $on-request (param $args i32) (result i32)
  (if (call $is-smoke (local.get $args)) (then (return (i32.const 512))))
  (drop (memory.grow (i32.const 20)))
  (call $log (i32.const 1) (i32.const 65536) (i32.const 1048576))
  (i32.const 512))
