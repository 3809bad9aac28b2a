;; Logs a thousand lines, each with an escape sequence, and counts a metric as often, one that it declared and one that not.
;; hooks: request
;; metrics: floods
(import "portcullis:policy/host@0.1.0" "log" (func $log (param i32 i32 i32)))
(import "portcullis:policy/host@0.1.0" "count" (func $count (param i32 i32 i64)))
(data (i32.const 4096) "\1b[31mflood")
(data (i32.const 4112) "floods")
(data (i32.const 4120) "stolen")
(func $on-request (param $args i32) (result i32)
  (local $left i32)
  (local.set $left (i32.const 1000))
  (loop $again
    (call $log (i32.const 1) (i32.const 4096) (i32.const 10))
    (call $count (i32.const 4112) (i32.const 6) (i64.const 2))
    (call $count (i32.const 4120) (i32.const 6) (i64.const 2))
    (br_if $again (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))
  (i32.const 512))
