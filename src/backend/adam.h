// What stays the same from step to step of Adam: `AdamRule` in dense_rules.rs, which says what each is.
#pragma once

namespace dec {

struct AdamRule {
  float beta1;
  float beta2;
  float epsilon;
  float decay;
  float apart;
};

}  // namespace dec
