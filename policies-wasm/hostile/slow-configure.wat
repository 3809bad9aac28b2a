;; Counts down in `configure` from the number that its settings are.
;; hooks: request
(func $configure (param $at i32) (param $left i32) (result i32)
  (local $number i64)
  (loop $digit
    (local.set $number (i64.add (i64.mul (local.get $number) (i64.const 10))
      (i64.sub (i64.load8_u (local.get $at)) (i64.const 48))))
    (local.set $at (i32.add (local.get $at) (i32.const 1)))
    (br_if $digit (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))
  (loop $down
    (i64.store (i32.const 600) (local.get $number))
    (local.set $number (i64.sub (local.get $number) (i64.const 1)))
    (br_if $down (i64.gt_s (local.get $number) (i64.const 0))))
  (i32.const 512))
