// Declarations; no include guard.
namespace DT_ISA {}
